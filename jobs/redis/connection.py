"""How this project connects to Redis, loads its scripts, and what it says of a Redis that does not answer."""

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

# Each request that is talking to Redis has a connection. Redis takes so many by default, redis-py makes 100 at most.
_MAX_CONNECTIONS = 10_000
# A Redis that is started again is back within this time, and a request that comes meanwhile is not refused.
WHILE_IT_RESTARTS = Retry(ConstantBackoff(0.1), retries=20, supported_errors=(RedisConnectionError,))

_LUA = files("jobs.redis") / "lua"
# What the scripts call; Lua has no imports in Redis.
_COMMON = ("now", "bound", "bytes")


def connect(url: str) -> Any:  # noqa: ANN401 - redis-py's own types fit none of its answers
    """Return a client of the Redis at `url`, or of the master that it leads to, which connects at first use."""
    # No blocking read lasts as long as this timeout, so when it passes, Redis or the network is gone. Who calls learns
    # of it at once: it takes that into account.
    return redis.Redis.from_pool(connection_pool(url, _MAX_CONNECTIONS, connect_timeout_s=2, answer_timeout_s=5))


def milliseconds(time: tuple[int, int]) -> int:
    """Return Redis's time, which it gives in seconds and microseconds."""
    seconds, microseconds = time
    return seconds * 1000 + microseconds // 1000


def time_of(entry_id: bytes) -> int:
    """Return when an entry was added to a stream, in milliseconds of Redis's time: its id begins with that."""
    return int(entry_id.split(b"-")[0])


def lacks_group(err: ResponseError) -> bool:
    """Tell whether an error is that a stream has no such group, or does not exist."""
    return "NOGROUP" in str(err) or "no such key" in str(err)


class _WholeScript(Script):
    """A script that is run as a whole or not at all.

    While a node of a cluster hands its slot over to another, key by key, it refuses a script where it lacks any of the
    keys that the call names. One that asks for others would end halfway, where it lacks those. So each call names a key
    that is never there.
    """

    def __call__(self, keys: Sequence[Any], args: Sequence[Any]) -> Any:  # type: ignore[override]  # noqa: ANN401
        """Return what the script answers."""
        return super().__call__([*keys, ABSENT], args)


def script(connection: Any, name: str) -> Script:  # noqa: ANN401 - what `connect` returns
    """Return the script `lua/<name>.lua`, to be called."""
    return _WholeScript(connection, "\n".join((_LUA / f"{part}.lua").read_text() for part in (*_COMMON, name)))


class ScriptCall(NamedTuple):
    """What a script is called with."""

    keys: Sequence[Any]
    args: Sequence[Any]


def call_all(called: Script, calls: Sequence[ScriptCall]) -> list[Any]:
    """Call a script many times in one round trip; return each answer, or the `RedisError` that came instead.

    Raises `RedisError` where Redis is away. A pipeline of redis-py would ask before, each time, whether Redis has it.
    """
    if not calls:
        return []
    connection: Any = called.registered_client
    # As a transaction, so that who waits for what the calls add wakes up for all of it at once.
    pipeline = connection.pipeline(transaction=len(calls) > 1)
    for keys, args in calls:
        pipeline.evalsha(called.sha, len(keys) + 1, *keys, ABSENT, *args)
    answers: list[Any] = pipeline.execute(raise_on_error=False)
    unknown = [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:  # Redis was started again
        connection.script_load(called.script)
        for index, answer in zip(unknown, call_all(called, [calls[index] for index in unknown]), strict=True):
            answers[index] = answer
    return answers


@contextmanager
def reaching_redis() -> Iterator[None]:
    """Turn whatever keeps Redis from answering into `QueueUnavailable`.

    It may be away, starting, a replica, or out of memory or disk.
    """
    try:
        yield
    except RedisError as err:
        log.warning("Redis does not answer: %s", err)  # which names hosts, and so is not for clients
        raise QueueUnavailable from err
