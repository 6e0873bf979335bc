"""What the contract does not say: how much is kept, for how long, and Redis going away."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from conftest import RedisServer
from jobs.errors import QueueUnavailable
from jobs.redis_queue import RedisJobQueue
from jobs.redis_results import RedisResults
from jobs.results import Result
from jobs.schema import ImageJob, Prediction

DOG = Prediction("Eskimo_dog", 248, 0.64, "m1")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path, keeps=True)
    yield server
    server.stop()


@pytest.fixture
def results(server: RedisServer) -> Iterator[RedisResults]:
    results = RedisResults(server.url, max_entries=2)
    yield results
    results.close()


def test_of_too_many_the_oldest_go_first_and_those_answered_at_once_push_out_no_others(results: RedisResults) -> None:
    results.keep("submitted", Result({}, ("j",)), 60)
    for number in range(3):
        results.keep(f"answered-{number}", Result({}, ("j",), {"j": DOG}), 60)
    ids = ["submitted", "answered-0", "answered-1", "answered-2"]
    assert [results.get(result_id) is not None for result_id in ids] == [True, False, True, True]


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
        assert 3500 < connection.ttl("mlapi:result:r1") <= 3600


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
