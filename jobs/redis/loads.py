"""Which model folders the `mlapi serve` of a Redis is asked to load beside its own, and what came of that."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from jobs.redis import keys
from jobs.redis.connection import connect, reaching_redis
from jobs.settings import SharedSettings
from runtime.errors import SetupError
from runtime.reading import read, understood

# While it stops workers, `mlapi serve` does not say that it is there.
_SUPERVISOR_TTL_S = 60


class CannotLoad(SetupError):
    """A version cannot be loaded or unloaded; the message says why."""


@dataclass(frozen=True, slots=True)
class Load:
    """Whether a folder's version is to be loaded, is ready, failed with an `error`, or is to be unloaded."""

    state: Literal["load", "ready", "failed", "unload"] = "load"
    version: str = ""
    error: str = ""

    @classmethod
    def decode(cls, data: bytes) -> "Load":
        """Return what is written of one. Raises `Damaged`."""
        return read(cls, data)


class RedisLoads:
    """Folders and what is asked of each; every method raises `QueueUnavailable` where Redis is away."""

    def __init__(self, url: str) -> None:
        self._redis: Any = connect(url)

    @classmethod
    def from_settings(cls, settings: SharedSettings) -> "RedisLoads":
        """Return those on the Redis that the settings name."""
        return cls(settings.redis_login)

    def read(self) -> dict[str, Load]:
        """Return what there is, by folder."""
        with reaching_redis():
            found = self._redis.hgetall(keys.LOADS)
        loads = {
            folder.decode(errors="replace"): understood(f"what is asked of model folder {folder!r}", Load.decode, told)
            for folder, told in found.items()
        }
        return {folder: load for folder, load in loads.items() if load}

    def write(self, folder: str, load: Load) -> None:
        """Ask for something, or say what came of it."""
        with reaching_redis():
            self._redis.hset(keys.LOADS, folder, json.dumps(asdict(load)))

    def forget(self, folder: str) -> None:
        """Drop a folder."""
        with reaching_redis():
            self._redis.hdel(keys.LOADS, folder)

    def supervise(self) -> None:
        """Say that somebody does what is asked for; to be repeated."""
        with reaching_redis():
            self._redis.set(keys.SUPERVISOR, 1, ex=_SUPERVISOR_TTL_S)

    def are_supervised(self) -> bool:
        """Tell whether somebody does."""
        with reaching_redis():
            return bool(self._redis.exists(keys.SUPERVISOR))

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()
