"""Starts the systems that are measured, each on a free port and with a folder of its own, and ends them."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mlapi.redis_server import free_port
from stress_test.errors import CannotRun

ROOT = Path(__file__).parent.parent
_START_TIMEOUT_S, _STOP_TIMEOUT_S = 120.0, 30.0
# Each command prints this when all of its processes are up.
_READY = "Ctrl-C stops it."

COMMANDS = {
    "this service": ("mlapi", "serve"),
    "classic design": ("benchmarks.classic",),
}


@contextlib.contextmanager
def running(name: str) -> Iterator[int]:
    """Start a system, and yield its port when it is ready. Raises `CannotRun` with what it printed if it never is."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="mlapi-bench-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(  # noqa: S603 - our own commands, no shell
                [sys.executable, "-m", *COMMANDS[name]],
                cwd=ROOT,
                env={**os.environ, **_environment(Path(folder), port)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the benchmark alone, which stops it
            )
        try:
            _wait_until_ready(name, process, log)
            yield port
        finally:
            _stop(process)


def _environment(folder: Path, port: int) -> dict[str, str]:
    return {
        "PORT": str(port),
        "UPLOAD_FOLDER": str(folder / "uploads"),
        "FEEDBACK_FILEPATH": str(folder / "feedback"),
        "TMPDIR": str(folder),
    }


def _wait_until_ready(name: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while _READY not in log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise CannotRun(f"{name} did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
