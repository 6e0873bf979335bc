"""Connects to Redis, loads the scripts, and reports a Redis that does not answer."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, NamedTuple

import redis
from redis.backoff import ConstantBackoff
from redis.commands.core import Script
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.retry import Retry

from jobs.redis.keys import ABSENT
from jobs.redis.pool import connection_pool
from runtime.errors import QueueUnavailable

log = logging.getLogger(__name__)

# Each request that is talking to Redis has a connection. Redis accepts this many by default; redis-py makes 100 at
# most.
_MAX_CONNECTIONS = 10_000
# A Redis that restarts is back within this time; a request that comes meanwhile is not refused.
WHILE_IT_RESTARTS = Retry(ConstantBackoff(0.1), retries=20, supported_errors=(RedisConnectionError,))

_LUA = files("jobs.redis") / "lua"
# Functions that the scripts call, put before each script; Lua has no imports in Redis.
_COMMON = ("now", "bound", "bytes")


def connect(url: str) -> Any:  # noqa: ANN401 - redis-py's own types fit none of its answers
    """Return a client of the Redis at `url`, or of the master that it leads to. It connects at first use."""
    # No blocking read lasts as long as this timeout, so when it passes, Redis or the network is gone. Callers get the
    # error at once and handle it.
    return redis.Redis.from_pool(connection_pool(url, _MAX_CONNECTIONS, connect_timeout_s=2, answer_timeout_s=5))


def milliseconds(time: tuple[int, int]) -> int:
    """Return a Redis time, which is in seconds and microseconds, in milliseconds."""
    seconds, microseconds = time
    return seconds * 1000 + microseconds // 1000


def time_of(entry_id: bytes) -> int:
    """Return when a stream entry was added, in milliseconds of Redis's time: its id begins with that."""
    return int(entry_id.split(b"-")[0])


def lacks_group(err: ResponseError) -> bool:
    """Return whether an error means that a stream does not exist or lacks the group."""
    return "NOGROUP" in str(err) or "no such key" in str(err)


class _WholeScript(Script):
    """A script that runs as a whole or not at all.

    While a node of a cluster hands its slot over to another, key by key, it refuses a script if it lacks any of the
    keys that the call names. A script that uses keys that the call does not name would stop halfway. So each call names
    a key that never exists.
    """

    def __call__(self, keys: Sequence[Any], args: Sequence[Any]) -> Any:  # type: ignore[override]  # noqa: ANN401
        """Return the script's answer."""
        return super().__call__([*keys, ABSENT], args)


def script(connection: Any, name: str) -> Script:  # noqa: ANN401 - what `connect` returns
    """Return the script `lua/<name>.lua` as a callable."""
    return _WholeScript(connection, "\n".join((_LUA / f"{part}.lua").read_text() for part in (*_COMMON, name)))


class ScriptCall(NamedTuple):
    """The arguments of one call of a script."""

    keys: Sequence[Any]
    args: Sequence[Any]


def call_all(called: Script, calls: Sequence[ScriptCall]) -> list[Any]:
    """Call a script many times in one round trip; return each call's answer or its `RedisError`.

    Raises `RedisError` if Redis is away. A pipeline of redis-py would ask every time whether Redis has the script.
    """
    if not calls:
        return []
    connection: Any = called.registered_client
    # As a transaction, so that readers that wait for what the calls add wake up once, for all of it.
    pipeline = connection.pipeline(transaction=len(calls) > 1)
    for keys, args in calls:
        pipeline.evalsha(called.sha, len(keys) + 1, *keys, ABSENT, *args)
    answers: list[Any] = pipeline.execute(raise_on_error=False)
    unknown = [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:  # Redis was restarted
        connection.script_load(called.script)
        for index, answer in zip(unknown, call_all(called, [calls[index] for index in unknown]), strict=True):
            answers[index] = answer
    return answers


@contextmanager
def reaching_redis() -> Iterator[None]:
    """Turn any failure of Redis to answer into `QueueUnavailable`.

    Redis may be away, starting, a replica, or out of memory or disk.
    """
    try:
        yield
    except RedisError as err:
        log.warning("Redis does not answer: %s", err)  # not for clients: it names hosts
        raise QueueUnavailable from err
