"""Keeps a group of processes running, and leaves none behind."""

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from runtime import parent_watch
from runtime.errors import SetupError

log = logging.getLogger(__name__)

# A process that ends is restarted at once; one that keeps ending this soon, after a pause that doubles each time.
_SHORT_LIFE_S = 10.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_READY_CHECK_EVERY_S = 0.05
_STEP_EVERY_S = 1.0


class CannotStart(SetupError):
    """A process ended, or was not ready in time, during the start."""


@dataclass(frozen=True, slots=True)
class Program:
    """A process to keep running: its name in the log, its command, and additions to the environment.

    `log_file` is set if it reports errors in a file, not on standard error. With `keeps_last_words`, its last line on
    standard error is stored as well.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_timeout_s: float = 10.0
    log_file: Path | None = None
    keeps_last_words: bool = False


class Child:
    """A program's current process, which is restarted when it ends, unless it `may_end`."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.may_end = False
        self.is_running = False
        self.last_words = ""
        self.started_at = 0.0
        self.short_lives = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, on_exit: Callable[["Child"], None]) -> None:
        """Start the process in its own process group, and call `on_exit` when it ends."""
        self.started_at = time.monotonic()
        self.is_running = True
        self.process = subprocess.Popen(  # noqa: S603 - our own commands, no shell
            self.program.command,
            env={**os.environ, **self.program.environment},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE if self.program.keeps_last_words else None,
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops the others in order
            preexec_fn=parent_watch.ending_with_starter(),
        )
        threading.Thread(target=self._wait, args=(self.process, on_exit), daemon=True).start()

    def _wait(self, process: subprocess.Popen[bytes], on_exit: Callable[["Child"], None]) -> None:
        with process:  # waits for its end
            for line in process.stderr or ():
                self.last_words = line.decode(errors="replace").strip().removeprefix("mlapi: ") or self.last_words
                with contextlib.suppress(OSError):  # its reader is gone
                    os.write(sys.stderr.fileno(), line)
        self.is_running = False
        on_exit(self)

    def ask_to_stop(self) -> None:
        """Terminate the process gracefully."""
        if self.process is not None:
            self.process.terminate()

    def kill_group(self) -> None:
        """Kill what is left of the process and its children."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def failure(self) -> str:
        """Return how the process ended, and its error message."""
        log_file = self.program.log_file
        said = log_file.read_text().strip() if log_file and log_file.exists() else self.last_words
        return f"The {self.program.name} {self.describe_exit()}; {said or 'it says why above.'}"

    def pause_s(self) -> float:
        """Return the pause before the ended process is restarted."""
        lived_s = time.monotonic() - self.started_at
        self.short_lives = self.short_lives + 1 if lived_s < _SHORT_LIFE_S else 0
        return min(_FIRST_PAUSE_S * 2 ** (self.short_lives - 2), _LONGEST_PAUSE_S) if self.short_lives > 1 else 0.0

    def describe_exit(self) -> str:
        """Return how the process ended, in words."""
        status = self.process.returncode if self.process else 0
        return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"


class Supervisor:
    """Starts programs in order, restarts them when they end, and stops them in reverse order."""

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._due: dict[Child, float] = {}  # restart times, on the monotonic clock
        self._events: queue.SimpleQueue[Child | None] = queue.SimpleQueue()  # a child that ended; None: stop
        self._stopping = False
        self._former_handlers: dict[int, Any] = {}

    def __enter__(self) -> "Supervisor":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._former_handlers[number] = signal.signal(number, self._ask_to_stop)
        return self

    def __exit__(self, *_: object) -> None:
        while self._children:
            self.stop(self._children[-1])
        for number, handler in self._former_handlers.items():
            signal.signal(number, handler)

    def _ask_to_stop(self, number: int, _: FrameType | None) -> None:
        log.info("stopping (%s)", signal.Signals(number).name)
        self._stopping = True
        self._events.put(None)

    @property
    def names(self) -> set[str]:
        """The names of the programs."""
        return {child.program.name for child in self._children}

    def start(self, *programs: Program) -> None:
        """Start programs."""
        for program in programs:
            self._start(program, len(self._children))

    def try_out(self, program: Program) -> Child:
        """Start a program that may end; it stops after the one started last, which may need it as long as it runs."""
        child = self._start(program, len(self._children) - 1)
        child.may_end = True
        return child

    def _start(self, program: Program, position: int) -> Child:
        child = Child(program)
        self._children.insert(position, child)
        child.start(self._events.put)
        return child

    def stop(self, child: Child) -> None:
        """Stop one of the programs for good."""
        self._children.remove(child)
        self._due.pop(child, None)
        self._stop(child)

    def wait_until(self, ready: Callable[[], bool], what: str, timeout_s: float) -> bool:
        """Return True when `ready()` holds, False when asked to stop. Raises `CannotStart` with the reason."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            with contextlib.suppress(queue.Empty):
                child = self._events.get(timeout=_READY_CHECK_EVERY_S)
                if child is None:
                    return False
                raise CannotStart(child.failure())
            if time.monotonic() > deadline:
                raise CannotStart(f"{what} within {timeout_s:g} s.")
        return True

    def run(self, step: Callable[[], None] = lambda: None) -> None:
        """Restart processes that end, until SIGTERM, SIGINT or SIGHUP, and call `step` about every second."""
        while not self._stopping:
            step()
            self._handle_next_event(time.monotonic() + _STEP_EVERY_S)

    def _stop(self, child: Child) -> None:
        """Stop a child, and kill its process group after the timeout.

        Children that stop later are restarted meanwhile, since it may need them: a signal may have reached all of them.
        """
        give_up_at = time.monotonic() + child.program.stop_timeout_s
        child.ask_to_stop()
        while child.is_running:
            if time.monotonic() > give_up_at:
                log.warning("%s does not stop and is killed", child.program.name)
                break
            self._handle_next_event(give_up_at)
        child.kill_group()

    def _handle_next_event(self, give_up_at: float) -> None:
        """Restart a process that is due or has ended, waiting no longer than `give_up_at`."""
        due_at = min([give_up_at, *self._due.values()])
        try:
            child = self._events.get(timeout=max(0.0, due_at - time.monotonic()))
        except queue.Empty:
            self._start_what_is_due()
            return
        if child in self._children and not child.may_end:
            self._plan_start(child)

    def _plan_start(self, child: Child) -> None:
        """Kill what an ended process left, and schedule its restart."""
        child.kill_group()
        pause_s = child.pause_s()
        log.warning("the %s %s; starting it again in %g s", child.program.name, child.describe_exit(), pause_s)
        self._due[child] = time.monotonic() + pause_s

    def _start_what_is_due(self) -> None:
        # In this thread, since the kernel kills a child when the thread that started it ends.
        for child in [child for child, due_at in self._due.items() if due_at <= time.monotonic()]:
            del self._due[child]
            child.start(self._events.put)
