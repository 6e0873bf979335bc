"""Rate limits per caller, counted in Redis for all API processes together."""

import logging
import math
import re
import time
from functools import cache
from typing import Annotated

import limits
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from pydantic import AfterValidator
from redis import RedisError

from jobs.redis import keys
from jobs.redis.pool import connection_pool
from runtime import waiting
from runtime.errors import TooManyRequests

log = logging.getLogger(__name__)

_RATE = re.compile(r"[1-9]\d{0,8}/(second|minute|hour|day)", re.ASCII)

# After Redis fails to answer, requests go uncounted for this long, rather than each waiting for it.
_UNCOUNTED_S = 5.0
_REDIS_TIMEOUT_S = 1.0

_parse = cache(limits.parse)


def _checked(text: str) -> str:
    if not _RATE.fullmatch(text):
        raise ValueError("It must be a number of requests per second, minute, hour or day, as in 600/minute.")
    return text


Rate = Annotated[str, AfterValidator(_checked)]


class RateLimiter:
    """Counts requests in the Redis at `redis_url`, to which it connects at first use, from up to `threads` at once.

    The window slides: of the requests in the previous window, it counts the share that still lies within the last
    second (minute, ...). While Redis is down nothing is counted: the limit protects the service, and must not stop it.
    """

    def __init__(self, redis_url: str, threads: int) -> None:
        pool = connection_pool(
            redis_url, threads, connect_timeout_s=_REDIS_TIMEOUT_S, answer_timeout_s=_REDIS_TIMEOUT_S
        )
        # Not the library's own storages: the one for Sentinel reads from lagging replicas, and none follows a slot.
        storage = RedisStorage("redis://", connection_pool=pool, key_prefix=keys.RATE)
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        self._count_from = 0.0

    @waiting.blocking
    def count(self, caller: str, rate: str) -> None:
        """Count one request of a caller. Raises `TooManyRequests` if it exceeds the rate."""
        if time.monotonic() < self._count_from:
            return
        try:
            if not self._limiter.hit(_parse(rate), caller):
                raise TooManyRequests(f"At most {rate} are allowed. Try again later.", self._wait_s(caller, rate))
        except RedisError as err:
            log.warning("requests are not counted for %d s: %s", _UNCOUNTED_S, err)
            self._count_from = time.monotonic() + _UNCOUNTED_S

    def _wait_s(self, caller: str, rate: str) -> int:
        """Return the seconds until another request is allowed."""
        reset_time = self._limiter.get_window_stats(_parse(rate), caller).reset_time
        return max(1, math.ceil(reset_time - time.time()))
