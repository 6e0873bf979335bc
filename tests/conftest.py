"""Starts the service as `make run` does. These tests use it only from outside.

They import nothing of it except the code that ends their services should they be killed themselves.
"""

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import redis
import requests

from runtime import parent_watch

ROOT = Path(__file__).parent.parent
SERVE = (sys.executable, "-m", "mlapi", "serve")
# Generous, for a busy machine: anything that comes earlier is noticed at once.
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 60
EVENT_TIMEOUT_S = 60


def free_port() -> int:
    """Return a free TCP port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """A running `mlapi serve`, and its output."""

    def __init__(self, folder: Path, command: Sequence[str] = SERVE, **environment: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log_path = folder / "log"
        defaults = {
            "PORT": str(self.port),
            "INSTANCES": "2",
            "UPLOAD_FOLDER": str(folder / "uploads"),
            "FEEDBACK_FILEPATH": str(folder / "feedback" / "feedback"),
            "TMPDIR": str(folder),
            "CACHE_TTL_S": "0",  # otherwise one photo sent many times would test the cache
        }
        with self._log_path.open("wb") as log_file:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **defaults, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                preexec_fn=parent_watch.ending_with_starter(),
            )

    @property
    def log(self) -> str:
        """The output so far."""
        return self._log_path.read_text(errors="replace")

    def wait_until_ready(self) -> "Service":
        """Return when the greeting is printed; fail with the log if it is not in time."""
        until(lambda: "Ctrl-C stops it" in self.log or self.process.poll() is not None, START_TIMEOUT_S)
        assert self.process.poll() is None, self.log
        assert "Ctrl-C stops it" in self.log, self.log
        return self

    def predict(self, image: bytes, filename: str = "photo.jpg") -> requests.Response:
        """Post an image to /predict."""
        return requests.post(f"{self.url}/predict", files={"file": (filename, image)}, timeout=60)

    def processes(self, words: str = "") -> list[int]:
        """Return the ids of this service's processes whose command line contains `words`."""
        return [
            pid for pid in _process_ids() if self._is_ours(pid) and words in _read(pid, "cmdline").replace("\0", " ")
        ]

    def memory_bytes(self, words: str) -> int:
        """Return the memory of the processes whose command line contains `words`."""
        pages = [int(_read(pid, "statm").split()[1]) for pid in self.processes(words)]
        return sum(pages) * resource.getpagesize()

    def _is_ours(self, pid: int) -> bool:
        """Recognise a process by its environment or, since Redis overwrites that, by its working folder."""
        return f"TMPDIR={self.folder}\0" in _read(pid, "environ") or _working_folder(pid).startswith(str(self.folder))

    def kill(self, words: str, number: signal.Signals) -> None:
        """Send a signal to each process whose command line contains `words`."""
        for pid in self.processes(words):
            with suppress(ProcessLookupError):  # it has already ended
                os.kill(pid, number)

    def redis(self) -> "redis.Redis":
        """Return a connection to the Redis that this service started."""
        [url] = re.findall(r"REDIS_URL=(\S+)", self.log)
        return redis.Redis.from_url(url)

    def pause_workers(self) -> None:
        """Stop all workers until SIGCONT, and fake a heartbeat: otherwise the API soon knew that none is alive."""
        in_a_century_ms = 1000 * (time.time() + 100 * 365 * 86_400)
        with self.redis() as connection:
            connection.zadd("{mlapi}:workers", {"another": in_a_century_ms})
        self.kill("mlapi worker", signal.SIGSTOP)

    def queued_jobs(self) -> int:
        """Return the number of waiting and processing jobs."""
        with self.redis() as connection:
            return int(connection.xlen("{mlapi}:jobs")) + int(connection.xlen("{mlapi}:jobs:bulk"))

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(STOP_TIMEOUT_S)


def _process_ids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _read(pid: int, name: str) -> str:
    try:
        return (Path("/proc") / str(pid) / name).read_text(errors="replace")
    except OSError:  # the process has ended, or is another user's
        return ""


def _working_folder(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/cwd").readlink())
    except OSError:
        return ""


def until(condition: Callable[[], object], timeout_s: float) -> bool:
    """Return whether the condition became true before the deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def mlapi_key(file: Path, *words: str) -> str:
    """Run `mlapi key` on a key file, and return its output."""
    command = [sys.executable, "-m", "mlapi", "key", *words]
    environment = {**os.environ, "API_KEYS_FILE": str(file)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


MakeService = Callable[..., Service]


@pytest.fixture
def make_service(tmp_path: Path) -> Iterator[MakeService]:
    """Start services with a test's own settings."""
    made: list[Service] = []

    def make(command: Sequence[str] = SERVE, **environment: str) -> Service:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Service(folder, command, **environment))
        return made[-1]

    yield make
    for service in made:
        if service.process.poll() is None:
            service.stop()


@pytest.fixture(scope="session")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running service: $BASE_URL, or one started for these tests."""
    given = os.environ.get("BASE_URL")
    if given:
        yield given.rstrip("/")
        return
    service = Service(tmp_path_factory.mktemp("service")).wait_until_ready()
    yield service.url
    service.stop()
    assert service.processes() == []
