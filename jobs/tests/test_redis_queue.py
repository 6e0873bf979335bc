"""What the contract does not say: Redis going away and coming back."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from conftest import RedisServer
from jobs.errors import QueueUnavailable
from jobs.queue import Delivery
from jobs.redis_queue import RedisJobQueue
from jobs.schema import ImageJob, Prediction

DOG = Prediction("Eskimo_dog", 248, 0.64, "m1")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def queue(server: RedisServer) -> Iterator[RedisJobQueue]:
    queue = RedisJobQueue(server.url, max_jobs=10)
    yield queue
    queue.close()


def answer_one(queue: RedisJobQueue) -> None:
    """Answer one job as a worker would."""
    deadline = time.monotonic() + 10
    batch: list[Delivery] = []
    while not batch and time.monotonic() < deadline:
        batch = queue.take_batch("w1", 1, 0.1)
    queue.finish([(delivery, DOG) for delivery in batch])


def submit_and_wait(queue: RedisJobQueue) -> Prediction:
    job = ImageJob.create("dog.jpg", 10)
    queue.heartbeat("w1", 0.01, "m1")
    queue.submit(job)
    worker = threading.Thread(target=answer_one, args=(queue,))
    worker.start()
    try:
        return queue.wait(job)
    finally:
        worker.join()


def test_while_redis_is_away_every_call_says_so(server: RedisServer, queue: RedisJobQueue) -> None:
    server.stop()
    for call in (
        lambda: queue.submit(ImageJob.create("dog.jpg", 10)),
        lambda: queue.take_batch("w1", 1, 0.1),
        lambda: queue.heartbeat("w1", 0.01, "m1"),
        lambda: queue.retire("w1"),
        queue.live_workers,
    ):
        with pytest.raises(QueueUnavailable):
            call()


def test_after_redis_lost_everything_jobs_are_answered_again(server: RedisServer, queue: RedisJobQueue) -> None:
    assert submit_and_wait(queue) == DOG
    server.stop()
    server.start()
    assert submit_and_wait(queue) == DOG


def test_what_is_answered_leaves_the_queue_and_its_reply_is_forgotten_in_time(
    server: RedisServer, queue: RedisJobQueue
) -> None:
    submit_and_wait(queue)
    with redis.Redis.from_url(server.url) as connection:
        assert connection.xlen("mlapi:jobs") == 0
        [replies] = connection.scan_iter("mlapi:replies:*")
        assert 0 < connection.ttl(replies) <= 300


def test_the_cache_keeps_the_latest_predictions_only(server: RedisServer) -> None:
    queue = RedisJobQueue(server.url, max_jobs=10, cache_ttl_s=60, cache_entries=2)
    queue.heartbeat("w1", 0.01, "m1")
    for image in "abc":
        queue.submit(ImageJob.create(image, 10))
        answer_one(queue)
    queue.close()
    with redis.Redis.from_url(server.url) as connection:
        assert sorted(connection.scan_iter("mlapi:prediction:*")) == [
            b"mlapi:prediction:m1:b",
            b"mlapi:prediction:m1:c",
        ]
        assert connection.zcard("mlapi:cached") == 2
        assert 0 < connection.ttl("mlapi:prediction:m1:c") <= 60
