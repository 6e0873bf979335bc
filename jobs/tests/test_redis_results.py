"""Results on Redis beyond the contract: how much is kept, for how long, and Redis going away."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from jobs.redis.queue import RedisJobQueue
from jobs.redis.results import RedisResults
from jobs.results import Result
from jobs.schema import ClassScore, ImageJob, Prediction, Timings
from runtime.errors import QueueUnavailable
from testing.redis_servers import RedisServer

TOP = tuple(ClassScore("Eskimo_dog", index, 0.1234567890123456) for index in range(5))
DOG = Prediction("Eskimo_dog", 248, 0.64, "m1", Timings(1.234567, 2.345678, 3.456789, 8), TOP)
MAX_BYTES = 1_000_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path, keeps=True)
    yield server
    server.stop()


@pytest.fixture
def results(server: RedisServer) -> Iterator[RedisResults]:
    results = RedisResults(server.url, max_bytes=MAX_BYTES)
    yield results
    results.close()


Keep = Callable[[RedisResults, str, int], None]


def keep_answered(results: RedisResults, name: str, size: int) -> None:
    results.keep(name, Result({"asked": "x" * size}, ("j",), {"j": DOG}), 60)


def keep_many_answered(results: RedisResults, name: str, size: int) -> None:
    outcomes = {f"{number:032}": DOG for number in range(16)}
    results.keep(name, Result({"asked": "ä" * size}, tuple(outcomes), outcomes), 60)


def keep_submitted(results: RedisResults, name: str, size: int) -> None:
    results.keep(name, Result({"asked": "x" * size}, ("j", "k")), 60)
    for job_id in "jk":
        results.add(name, job_id, DOG)


def keep_text(results: RedisResults, name: str, size: int) -> None:
    results.claim(name, "claimed", 60)
    results.settle(name, "ä" * size, 60)


@pytest.mark.parametrize("size", [50, 1_000, 10_000])
@pytest.mark.parametrize("keep", [keep_answered, keep_many_answered, keep_submitted, keep_text])
def test_what_is_kept_takes_no_more_memory_than_it_may(
    server: RedisServer, results: RedisResults, keep: Keep, size: int
) -> None:
    with redis.Redis.from_url(server.url) as connection:
        taken_before = taken_bytes(connection)
        for number in range(3 * MAX_BYTES // (size + 400)):
            keep(results, f"{number:032}", size)
        assert MAX_BYTES / 3 < taken_bytes(connection) - taken_before < 1.2 * MAX_BYTES


def taken_bytes(connection: "redis.Redis") -> int:
    """Return the memory of all keys, without that of clients and the log."""
    dataset: int = connection.info("memory")["used_memory_dataset"]
    return dataset


def test_of_too_much_the_oldest_goes_first_and_those_answered_at_once_push_out_no_others(results: RedisResults) -> None:
    results.keep("submitted", Result({}, ("j",)), 60)
    for number in range(3):
        keep_answered(results, f"answered-{number}", 6 * MAX_BYTES // 10)
    ids = ["submitted", "answered-0", "answered-1", "answered-2"]
    assert [results.get(result_id) is not None for result_id in ids] == [True, False, True, True]


def test_a_result_larger_than_all_that_may_be_kept_is_kept_alone(results: RedisResults) -> None:
    keep_answered(results, "small", 10)
    keep_answered(results, "large", 2 * MAX_BYTES)
    assert [results.get(result_id) is not None for result_id in ("small", "large")] == [False, True]


def test_a_result_is_kept_as_long_as_it_was_to_also_when_an_outcome_comes(
    server: RedisServer, results: RedisResults
) -> None:
    queue = RedisJobQueue(server.url, max_jobs=10)
    job = ImageJob.create("dog.jpg", 10)
    results.keep("r1", Result({}, (job.id,)), 3600)
    queue.heartbeat("w1", 0.01, "m1")
    queue.submit_kept(job, "r1")
    queue.finish([(delivery, DOG) for delivery in queue.take_batch("w1", 1, 5)])
    queue.close()
    with redis.Redis.from_url(server.url) as connection:
        assert 3500 < connection.ttl("{mlapi}:result:r1") <= 3600


def test_a_job_and_its_result_outlive_a_redis_that_is_killed(server: RedisServer, results: RedisResults) -> None:
    queue = RedisJobQueue(server.url, max_jobs=10)
    job = ImageJob.create("dog.jpg", 10)
    results.keep("r1", Result({"top_k": 1}, (job.id,)), 3600)
    queue.heartbeat("w1", 0.01, "m1")
    queue.submit_kept(job, "r1")
    queue.close()
    server.stop()
    server.start()
    worker = RedisJobQueue(server.url, max_jobs=10)
    worker.heartbeat("w2", 0.01, "m1")
    worker.finish([(delivery, DOG) for delivery in worker.take_batch("w2", 1, 5)])
    worker.close()
    found = results.get("r1", 5)
    assert found
    assert (found.request, found.outcomes) == ({"top_k": 1}, {job.id: DOG})


def test_while_redis_is_away_every_call_says_so(server: RedisServer, results: RedisResults) -> None:
    server.stop()
    for call in (
        lambda: results.keep("r1", Result({}, ()), 60),
        lambda: results.add("r1", "j", DOG),
        lambda: results.get("r1"),
        lambda: results.drop("r1"),
        lambda: results.claim("k", "t", 60),
        lambda: results.settle("k", "t", 60),
        lambda: results.release("k"),
        lambda: results.remind("r", 1),
        lambda: results.due(1),
        lambda: results.drop_reminder("r"),
    ):
        with pytest.raises(QueueUnavailable):
            call()
    server.start()
