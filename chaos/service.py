"""The service under test: real processes, started by `mlapi serve` as `make run` does."""

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from mlapi.service.redis_server import free_port
from testing import processes
from testing.errors import CannotRun

WORKERS = 2
_READY = "Ctrl-C stops it."
_WELL_TIMEOUT_S = 90.0
_LOOK_EVERY_S = 0.02


class Service:
    """A service with its own folder and port, and its processes."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self.uploads = folder / "uploads"
        self.port = free_port()
        self.workers = WORKERS
        self._log = folder / "log"
        self._environment = {
            "PORT": str(self.port),
            "INSTANCES": str(WORKERS),
            "UPLOAD_FOLDER": str(self.uploads),
            "FEEDBACK_FILEPATH": str(folder / "feedback"),
            "TMPDIR": str(folder),
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._running = contextlib.ExitStack()

    def __enter__(self) -> "Service":
        self.uploads.mkdir()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def start(self) -> None:
        """Start it, and return when all processes are up. Raises `CannotRun` with its output if they never are."""
        self._running.close()  # all processes of the previous start have ended
        command = processes.python("mlapi", "serve")
        self._process = self._running.enter_context(processes.running(command, self._environment, self._log))
        processes.wait_until(lambda: _READY in self.log, self._process, self._log)

    @property
    def log(self) -> str:
        """Its output since it was started."""
        return self._log.read_text(errors="replace")

    @property
    def redis_url(self) -> str:
        """The URL of its Redis."""
        return str(re.findall(r"REDIS_URL=(\S+)", self.log)[-1])

    def pids(self, words: str = "") -> list[int]:
        """Return its processes, or those whose command has these words, with their descendants; oldest first."""
        everything = processes.tree(self._process.pid) if self._process else []
        found = [pid for pid in everything if words in _command(pid)]
        return sorted({descendant for pid in found for descendant in processes.tree(pid)})

    def signal(self, number: signal.Signals, *pids: int) -> None:
        """Send a signal to processes, some of which may have ended."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def wait_until_ended(self) -> None:
        """Return when all its processes have ended. Raises `CannotRun` if that takes too long."""
        if self._process:
            _wait_until(lambda: self._process is None or self._process.poll() is not None, "did not end")

    def wait_until_well(self) -> None:
        """Return when the API answers and every worker is alive. Raises `CannotRun` if that takes too long."""
        _wait_until(lambda: self._ready_workers() == self.workers, f"was not well again:\n{self.log[-2000:]}")

    def _ready_workers(self) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as answer:
                return int(json.load(answer)["workers"])
        except OSError:
            return 0

    @contextlib.contextmanager
    def another_worker(self, redis_url: str) -> Iterator[None]:
        """Run one more worker, which reaches Redis by its own URL."""
        log = self.folder / "another-worker"
        environment = {**self._environment, "REDIS_URL": redis_url}
        with processes.running(processes.python("mlapi", "worker"), environment, log):
            self.workers += 1
            self.wait_until_well()
            yield
            self.workers -= 1


@contextlib.contextmanager
def running(settings: Mapping[str, str]) -> Iterator[Service]:
    """Run a service, and remove all of it afterwards. `{folder}` in a setting stands for the service's folder."""
    with tempfile.TemporaryDirectory(prefix="mlapi-chaos-") as name:
        filled_in = {key: value.format(folder=name) for key, value in settings.items()}
        with Service(Path(name), filled_in) as service:
            yield service


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""


def _wait_until(condition: Callable[[], bool], failure: str) -> None:
    deadline = time.monotonic() + _WELL_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise CannotRun(f"The service {failure}")
        time.sleep(_LOOK_EVERY_S)
