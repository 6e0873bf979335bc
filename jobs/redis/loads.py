"""Model folders that a running `mlapi serve` is asked to load beside its own, and the state of each."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from jobs.redis import keys
from jobs.redis.connection import connect, reaching_redis
from jobs.settings import SharedSettings
from runtime.errors import SetupError
from runtime.reading import read, understood

# While it stops workers, `mlapi serve` does not renew its key.
_SUPERVISOR_TTL_S = 60


class CannotLoad(SetupError):
    """A version cannot be loaded or unloaded; the message says why."""


@dataclass(frozen=True, slots=True)
class Load:
    """The state of a folder's version: to be loaded, ready, failed with an `error`, or to be unloaded."""

    state: Literal["load", "ready", "failed", "unload"] = "load"
    version: str = ""
    error: str = ""

    @classmethod
    def decode(cls, data: bytes) -> "Load":
        """Return a decoded entry. Raises `Damaged`."""
        return read(cls, data)


class RedisLoads:
    """The requested folders and their states. Every method raises `QueueUnavailable` if Redis is away."""

    def __init__(self, url: str) -> None:
        self._redis: Any = connect(url)

    @classmethod
    def from_settings(cls, settings: SharedSettings) -> "RedisLoads":
        """Return the entries on the Redis that the settings name."""
        return cls(settings.redis_login)

    def read(self) -> dict[str, Load]:
        """Return all entries, by folder."""
        with reaching_redis():
            found = self._redis.hgetall(keys.LOADS)
        loads = {
            folder.decode(errors="replace"): understood(f"what is asked of model folder {folder!r}", Load.decode, told)
            for folder, told in found.items()
        }
        return {folder: load for folder, load in loads.items() if load}

    def write(self, folder: str, load: Load) -> None:
        """Set the state of a folder: a request, or its result."""
        with reaching_redis():
            self._redis.hset(keys.LOADS, folder, json.dumps(asdict(load)))

    def forget(self, folder: str) -> None:
        """Drop a folder."""
        with reaching_redis():
            self._redis.hdel(keys.LOADS, folder)

    def supervise(self) -> None:
        """Mark that a process carries out the requests. Repeat it: the mark expires."""
        with reaching_redis():
            self._redis.set(keys.SUPERVISOR, 1, ex=_SUPERVISOR_TTL_S)

    def are_supervised(self) -> bool:
        """Return whether a process carries out the requests."""
        with reaching_redis():
            return bool(self._redis.exists(keys.SUPERVISOR))

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()
