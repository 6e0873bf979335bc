"""Starts and ends the systems under comparison, each on a free port and with its own folder."""

import contextlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlapi.service.redis_server import free_port
from testing import processes

# Every system prints this when all of its processes are up.
_READY = "Ctrl-C stops it."

COMMANDS = {
    "this service": ("mlapi", "serve"),
    "classic design": ("benchmarks.classic",),
}


@contextlib.contextmanager
def running(name: str, settings: Mapping[str, str] | None = None) -> Iterator[int]:
    """Start a system, and yield its port when it is ready. Raises `CannotRun` with its output if it never is.

    `settings` are further environment variables, beside those for its port and folder.
    """
    with _running(name, settings or {}) as (port, _):
        yield port


@contextlib.contextmanager
def running_with_queue(settings: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Start this service as `running` does, and yield its port and its Redis's URL."""
    with _running("this service", settings) as (port, log):
        [url] = re.findall(r"REDIS_URL=(\S+)", log)
        yield port, url


@contextlib.contextmanager
def _running(name: str, settings: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="mlapi-bench-", dir=processes.memory_folder()) as folder:
        log, command = Path(folder) / "log", processes.python(*COMMANDS[name])
        with processes.running(command, {**_environment(Path(folder), port), **settings}, log) as process:
            processes.wait_until(lambda: _READY in log.read_text(errors="replace"), process, log)
            yield port, log.read_text(errors="replace")


def _environment(folder: Path, port: int) -> dict[str, str]:
    return {
        "PORT": str(port),
        "UPLOAD_FOLDER": str(folder / "uploads"),
        "FEEDBACK_FILEPATH": str(folder / "feedback"),
        "TMPDIR": str(folder),
    }
