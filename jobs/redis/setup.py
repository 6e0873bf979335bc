"""Checks Redis's configuration for settings that would lose the service's data or refuse it."""

import logging
import threading
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from jobs.redis.connection import connect

log = logging.getLogger(__name__)

_EVICTS_NOTHING = "noeviction"
# The pause between attempts to reach a Redis that is away.
_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class RedisSetup:
    """Problems of a Redis, each with its remedy: why it takes no jobs, and how it may lose some silently.

    `is_kept` is whether it writes its data to a file, `is_node` whether it is in cluster mode.
    """

    refuses: tuple[str, ...] = ()
    loses: tuple[str, ...] = ()
    is_kept: bool = False
    is_node: bool = False

    @classmethod
    def read(cls, connection: Any) -> "RedisSetup":  # noqa: ANN401 - what `connect` returns
        """Read it with INFO, which managed services answer, too; they forbid CONFIG. Raises `RedisError`."""
        told: dict[str, Any] = connection.info()
        return cls(
            tuple(_refuses(told)),
            tuple(_loses(told)),
            is_kept=bool(told.get("aof_enabled")),
            is_node=bool(told.get("cluster_enabled")),
        )


def _refuses(told: dict[str, Any]) -> list[str]:
    found = []
    if told.get("role") == "slave":
        found.append("it is a replica, which takes no jobs: have REDIS_URL lead to its master, or name its sentinels")
    failed = "aof_last_write_status" if told.get("aof_enabled") else "rdb_last_bgsave_status"
    if told.get(failed, "ok") != "ok":
        found.append("it could not write its file, and may therefore take no jobs: its log says why")
    return found


def _loses(told: dict[str, Any]) -> list[str]:
    policy, limit = told.get("maxmemory_policy", _EVICTS_NOTHING), told.get("maxmemory")
    if policy == _EVICTS_NOTHING:
        return []
    when = f"When it has {told.get('maxmemory_human', limit)}" if limit else "Once it has a maxmemory and reaches that"
    what = "predictions that were promised" if policy.startswith("volatile") else "jobs and promised predictions"
    return [
        f"its maxmemory-policy is {policy}. {when}, it deletes {what} without a word: set maxmemory-policy "
        f"{_EVICTS_NOTHING}, with which requests then get 503"
    ]


def warn(login: str, stopped: threading.Event) -> None:
    """Log the problems of the Redis at a URL, as soon as it answers."""
    with connect(login) as connection:
        while not stopped.is_set():
            try:
                setup = RedisSetup.read(connection)
            except RedisError:  # logged elsewhere
                stopped.wait(_RETRY_S)
                continue
            for problem in (*setup.refuses, *setup.loses):
                log.warning("Redis: %s", problem)
            return
