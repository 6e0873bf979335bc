"""The queues that the contract tests run on."""

from collections.abc import Iterator

import pytest
import redis

from jobs.queue.interface import JobQueue
from jobs.queue.memory import MemoryJobQueue
from jobs.redis.queue import RedisJobQueue
from testing.queues import MakeQueue


@pytest.fixture
def worker_ttl_s() -> float:
    """Return a time longer than any test takes, even on a slow machine."""
    return 60


@pytest.fixture(params=["memory", "redis"])
def make_queue(request: pytest.FixtureRequest, worker_ttl_s: float) -> Iterator[MakeQueue]:
    made: list[JobQueue] = []

    def make(
        max_jobs: int = 100, cache_ttl_s: int = 0, max_bytes: int = 10_000, *, without_worker: bool = False
    ) -> JobQueue:
        if request.param == "memory":
            queue: JobQueue = MemoryJobQueue(
                max_jobs=max_jobs,
                max_bytes=max_bytes,
                cache_ttl_s=cache_ttl_s,
                worker_ttl_s=worker_ttl_s,
                without_worker=without_worker,
            )
        else:
            url = request.getfixturevalue("redis_url")
            with redis.Redis.from_url(url) as connection:
                connection.flushall()
            queue = RedisJobQueue(
                url,
                max_jobs=max_jobs,
                max_bytes=max_bytes,
                cache_ttl_s=cache_ttl_s,
                cache_entries=3,
                worker_ttl_s=worker_ttl_s,
                without_worker=without_worker,
            )
        made.append(queue)
        return queue

    yield make
    for queue in made:
        queue.close()


@pytest.fixture
def queue(make_queue: MakeQueue) -> JobQueue:
    return make_queue()


@pytest.fixture
def caching_queue(make_queue: MakeQueue) -> JobQueue:
    return make_queue(cache_ttl_s=60)
