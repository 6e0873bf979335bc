"""Keeps a group of processes running, and leaves none behind."""

import contextlib
import logging
import math
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from jobs import lifeline
from jobs.errors import SetupError

log = logging.getLogger(__name__)

# A process that ends is started again at once; one that keeps ending this soon, after a pause that doubles each time.
_SHORT_LIFE_S = 10.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_READY_CHECK_EVERY_S = 0.05


class CannotStart(SetupError):
    """A process ended, or was not ready in time, before the group was up."""


@dataclass(frozen=True, slots=True)
class Program:
    """A process to keep running: its name in the log, its command, and what it adds to the environment.

    One that says what ails it in a file, not on standard error, has a `log_file`.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_timeout_s: float = 10.0
    log_file: Path | None = None


class _Child:
    """One program's current process."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.started_at = 0.0
        self.short_lives = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, on_exit: Callable[["_Child"], None]) -> None:
        """Start the process in a group of its own, and have `on_exit` called when it ends."""
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603 - our own commands, no shell
            self.program.command,
            env={**os.environ, **self.program.environment},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops the others in order
            preexec_fn=lifeline.ending_with_starter(),
        )
        threading.Thread(target=self._wait, args=(self.process, on_exit), daemon=True).start()

    def _wait(self, process: subprocess.Popen[bytes], on_exit: Callable[["_Child"], None]) -> None:
        process.wait()
        on_exit(self)

    def ask_to_stop(self) -> None:
        """Ask the process to end."""
        if self.process is not None:
            self.process.terminate()

    def has_ended(self) -> bool:
        """Tell whether no process of this program runs."""
        return self.process is None or self.process.poll() is not None

    def kill_group(self) -> None:
        """Kill whatever is left of the process and those it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def reason(self) -> str:
        """Return what the ended process said."""
        log_file = self.program.log_file
        return log_file.read_text().strip() if log_file and log_file.exists() else "it says why above."

    def pause_s(self) -> float:
        """Return how long to wait before the ended process is started again."""
        lived_s = time.monotonic() - self.started_at
        self.short_lives = self.short_lives + 1 if lived_s < _SHORT_LIFE_S else 0
        return min(_FIRST_PAUSE_S * 2 ** (self.short_lives - 2), _LONGEST_PAUSE_S) if self.short_lives > 1 else 0.0

    def describe_exit(self) -> str:
        """Return how the process ended, in words."""
        status = self.process.returncode if self.process else 0
        return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"


class Supervisor:
    """Starts programs one after the other, starts them again when they end, and stops them in reverse order."""

    def __init__(self) -> None:
        self._children: list[_Child] = []
        self._due: dict[_Child, float] = {}  # when to start which one again, on the monotonic clock
        self._events: queue.SimpleQueue[_Child | None] = queue.SimpleQueue()  # a child that ended; None: stop
        self._former_handlers: dict[int, Any] = {}

    def __enter__(self) -> "Supervisor":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._former_handlers[number] = signal.signal(number, self._ask_to_stop)
        return self

    def __exit__(self, *_: object) -> None:
        while self._children:
            last = self._children.pop()
            self._due.pop(last, None)
            self._stop(last)
        for number, handler in self._former_handlers.items():
            signal.signal(number, handler)

    def _ask_to_stop(self, number: int, _: FrameType | None) -> None:
        log.info("stopping (%s)", signal.Signals(number).name)
        self._events.put(None)

    def start(self, *programs: Program) -> None:
        """Start programs."""
        for program in programs:
            child = _Child(program)
            self._children.append(child)
            child.start(self._events.put)

    def wait_until(self, ready: Callable[[], bool], what: str, timeout_s: float) -> bool:
        """Return True when `ready()` holds, False when asked to stop. Raises `CannotStart` with the reason."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            with contextlib.suppress(queue.Empty):
                child = self._events.get(timeout=_READY_CHECK_EVERY_S)
                if child is None:
                    return False
                raise CannotStart(f"The {child.program.name} {child.describe_exit()}; {child.reason()}")
            if time.monotonic() > deadline:
                raise CannotStart(f"{what} within {timeout_s:g} s.")
        return True

    def run(self) -> None:
        """Start again what ends, until SIGTERM, SIGINT or SIGHUP."""
        while self._handle_next_event():
            pass

    def _stop(self, child: _Child) -> None:
        """Stop a child, and end what is left of its group when its time is over.

        Those whose turn comes later are kept running, since it may need them: a signal may have reached all of them.
        """
        give_up_at = time.monotonic() + child.program.stop_timeout_s
        child.ask_to_stop()
        while not child.has_ended():
            if time.monotonic() > give_up_at:
                log.warning("%s does not stop and is killed", child.program.name)
                break
            self._handle_next_event(give_up_at)
        child.kill_group()

    def _handle_next_event(self, give_up_at: float = math.inf) -> bool:
        """Start again what is due or has ended, waiting for it no longer than asked; return False after a signal."""
        due_at = min([give_up_at, *self._due.values()])
        try:
            child = self._events.get(timeout=None if due_at == math.inf else max(0.0, due_at - time.monotonic()))
        except queue.Empty:
            self._start_what_is_due()
            return True
        if child in self._children:
            self._plan_start(child)
        return child is not None

    def _plan_start(self, child: _Child) -> None:
        """End what an ended process left, and plan when to start it again."""
        child.kill_group()
        pause_s = child.pause_s()
        log.warning("the %s %s; starting it again in %g s", child.program.name, child.describe_exit(), pause_s)
        self._due[child] = time.monotonic() + pause_s

    def _start_what_is_due(self) -> None:
        # In this thread, since the kernel ends a child with the thread that started it.
        for child in [child for child, due_at in self._due.items() if due_at <= time.monotonic()]:
            del self._due[child]
            child.start(self._events.put)
