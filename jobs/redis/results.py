"""Results on Redis: each is a stream of the request and then its outcomes, which workers add themselves.

So a result exists and grows even if the API stops; a reader blocks on the stream.
"""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

from redis.commands.core import Script

from jobs.redis import keys
from jobs.redis.connection import WHILE_IT_RESTARTS, connect, reaching_redis, script
from jobs.results import Result, never
from jobs.schema import Outcome, encode_outcome, outcome_or_failure
from jobs.settings import SharedSettings
from runtime import waiting
from runtime.reading import read, understood

# The duration of one blocking read; a reader that is stopped notices within this time.
_BLOCK_S = 0.5

# Memory used beyond the data: by a stream, whose first block Redis makes this large, and by a text; both with their
# keys and their index entries.
_STREAM_BYTES, _TEXT_BYTES = 4200, 400
# The size of an outcome still to come: five classes with labels of up to a hundred letters.
_OUTCOME_BYTES = 1000
# The factor by which an allocator that rounds up, as jemalloc does, may enlarge the data: a third was observed.
_ROUNDED_UP = 1.35


class RedisResults:
    """The `ResultStore` on Redis at `url`; the interface documents the methods.

    Results that were done when they came, other results, and texts may each take `max_bytes` of its memory.
    """

    def __init__(self, url: str, *, max_bytes: int) -> None:
        self._redis: Any = connect(url)
        self._max_bytes = max_bytes
        self._keep = script(self._redis, "keep")
        self._claim = script(self._redis, "claim")
        self._settle = script(self._redis, "settle")
        self._remind = script(self._redis, "remind")
        self._due = script(self._redis, "due")
        self._stopping = threading.Event()

    @classmethod
    def from_settings(cls, settings: SharedSettings, max_bytes: int) -> "RedisResults":
        """Return the store that the settings describe."""
        return cls(settings.redis_login, max_bytes=max_bytes)

    def keep(self, result_id: str, result: Result, ttl_s: int) -> None:
        """Keep a new result."""
        index = keys.RESULTS_ANSWERED if result.is_done else keys.RESULTS_SUBMITTED
        written: list[Any] = [json.dumps(result.request), " ".join(result.job_ids)]
        for job_id, outcome in result.outcomes.items():
            written += [job_id, encode_outcome(outcome)]
        to_come = len(result.job_ids) - len(result.outcomes)
        takes_bytes = _STREAM_BYTES + int(_ROUNDED_UP * sum(map(len, written))) + _OUTCOME_BYTES * to_come
        args: list[Any] = [ttl_s, takes_bytes, self._max_bytes, *written]
        self._call(lambda: self._keep(keys=[keys.RESULT + result_id, index], args=args))

    def add(self, result_id: str, job_id: str, outcome: Outcome) -> None:
        """Add a job's outcome to a result."""
        self._call(lambda: self._redis.xadd(keys.RESULT + result_id, _entry(job_id, outcome), nomkstream=True))

    def get(self, result_id: str, wait_s: float = 0, stopped: Callable[[], bool] = never) -> Result | None:
        """Return a result, waiting until it is done."""
        deadline = time.monotonic() + wait_s
        key = keys.RESULT + result_id
        entries = self._call(lambda: self._redis.xrange(key))
        result = _decode(entries)
        while result and not result.is_done and not self._stopping.is_set() and not stopped():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            entries += self._next(key, entries[-1][0], min(left_s, _BLOCK_S))
            result = _decode(entries)
        return result

    def _next(self, key: str, last_id: bytes, wait_s: float) -> list[Any]:
        """Return the entries of a stream after `last_id`, as soon as there are any."""
        block_ms = max(1, int(wait_s * 1000))  # to Redis, 0 means for ever
        streams = self._call(lambda: self._redis.xread({key: last_id}, block=block_ms))
        return [entry for _, entries in streams for entry in entries]

    def drop(self, result_id: str) -> None:
        """Forget a result."""
        self._call(lambda: self._redis.delete(keys.RESULT + result_id))

    def claim(self, key: str, text: str, ttl_s: int) -> str | None:
        """Keep a text under a key, unless there is one already."""
        found = self._write(self._claim, key, text, ttl_s)
        return None if found is None else found.decode(errors="replace")

    def settle(self, key: str, text: str, ttl_s: int) -> None:
        """Keep a text under a key."""
        self._write(self._settle, key, text, ttl_s)

    def _write(self, write: Script, key: str, text: str, ttl_s: int) -> Any:  # noqa: ANN401 - what the script answers
        written = text.encode()
        args: list[Any] = [ttl_s, _TEXT_BYTES + int(_ROUNDED_UP * len(written)), self._max_bytes, written]
        return self._call(lambda: write(keys=[keys.TEXT + key, keys.TEXTS], args=args))

    def release(self, key: str) -> None:
        """Forget the text under a key."""
        self._call(lambda: self._redis.delete(keys.TEXT + key))

    def remind(self, name: str, after_s: float) -> None:
        """Schedule a reminder."""
        self._call(lambda: self._remind(keys=[keys.REMINDERS], args=[name, int(1000 * after_s)]))

    def due(self, again_s: float) -> str | None:
        """Return a reminder that is due."""
        found = self._call(lambda: self._due(keys=[keys.REMINDERS], args=[int(1000 * again_s)]))
        return None if found is None else found.decode(errors="surrogateescape")

    def drop_reminder(self, name: str) -> None:
        """Forget a reminder."""
        self._call(lambda: self._redis.zrem(keys.REMINDERS, name))

    def stop_waiting(self) -> None:
        """End all waiting."""
        self._stopping.set()

    def close(self) -> None:
        """End the connections."""
        self._redis.close()

    @waiting.blocking
    def _call(self, command: Callable[[], Any]) -> Any:  # noqa: ANN401 - what the command gives
        with reaching_redis():
            return WHILE_IT_RESTARTS.call_with_retry(command, lambda _: None)


def _entry(job_id: str, outcome: Outcome) -> dict[str, bytes | str]:
    """Return an outcome's fields, as `lua/finish.lua` adds them."""
    return {"job_id": job_id, "outcome": encode_outcome(outcome)}


def _decode(entries: list[tuple[bytes, dict[bytes, bytes]]]) -> Result | None:
    """Return the result that a stream holds, or None if it lacks its first entry: it was dropped meanwhile."""
    if not entries or b"request" not in entries[0][1]:
        return None
    asked = entries[0][1]
    request = understood("what a kept prediction was asked for", _decode_request, asked[b"request"])
    if request is None:
        return None
    outcomes = {}
    for _, fields in entries:
        if b"outcome" in fields:
            job_id = fields.get(b"job_id", b"").decode(errors="replace")
            outcomes[job_id] = outcome_or_failure(f"the kept outcome of job {job_id}", fields[b"outcome"])
    return Result(request, tuple(asked.get(b"job_ids", b"").decode(errors="replace").split()), outcomes)


def _decode_request(data: bytes) -> dict[str, Any]:
    return read(dict[str, Any], data)
