"""The contract of every store of results, in memory and on Redis, with a queue that adds outcomes to them."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import redis

from jobs.queue.interface import MAX_JOINED, JobQueue
from jobs.queue.memory import MemoryJobQueue
from jobs.redis.queue import RedisJobQueue
from jobs.redis.results import RedisResults
from jobs.results import Result, ResultStore
from jobs.schema import ClassScore, ImageJob, JobFailure, Prediction, Timings
from runtime.errors import DeadlinePassed, NoWorker, QueueFull

DOG = Prediction("Eskimo_dog", 248, 0.64, "m1", Timings(1, 2, 3, 4), (ClassScore("Eskimo_dog", 248, 0.64),))
CAT = Prediction("tabby", 281, 0.91, "m1")
TTL_S = 60


@dataclass(frozen=True)
class Setup:
    """A queue and the store that it adds outcomes to."""

    queue: JobQueue
    results: ResultStore


@pytest.fixture(params=["memory", "redis"])
def setup(request: pytest.FixtureRequest) -> Iterator[Setup]:
    if request.param == "memory":
        queue = MemoryJobQueue(max_jobs=4, cache_ttl_s=60)
        made = Setup(queue, queue.results)
    else:
        url = request.getfixturevalue("redis_url")
        with redis.Redis.from_url(url) as connection:
            connection.flushall()
        redis_queue = RedisJobQueue(url, max_jobs=4, cache_ttl_s=60, cache_entries=10)
        made = Setup(redis_queue, RedisResults(url, max_bytes=10**6))
    yield made
    made.results.close()
    made.queue.close()


def submit(setup: Setup, *image_names: str, timeout_s: float = 10) -> list[ImageJob]:
    """Keep a result `r1` for jobs of these images, as if a worker were alive."""
    setup.queue.heartbeat("w1", 0.01, "m1")
    jobs = [ImageJob.create(name, timeout_s) for name in image_names]
    setup.results.keep("r1", Result({"top_k": 3}, tuple(job.id for job in jobs)), TTL_S)
    for job in jobs:
        setup.queue.submit_kept(job, "r1")
    return jobs


def work(setup: Setup, *outcomes: Prediction) -> None:
    """Answer as many jobs as there are outcomes."""
    left = list(outcomes)
    deadline = time.monotonic() + 10
    while left and time.monotonic() < deadline:
        setup.queue.heartbeat("w1", 0.01, "m1")
        for delivery in setup.queue.take_batch("w1", 1, 0.05):
            setup.queue.finish([(delivery, left.pop(0))])


def found(setup: Setup, result_id: str = "r1", wait_s: float = 0) -> Result:
    result = setup.results.get(result_id, wait_s)
    assert result
    return result


def test_outcomes_are_added_to_the_result_as_they_come(setup: Setup) -> None:
    dog, cat = submit(setup, "dog.jpg", "cat.jpg")
    assert found(setup) == Result({"top_k": 3}, (dog.id, cat.id))
    work(setup, DOG)
    assert (found(setup).outcomes, found(setup).is_done) == ({dog.id: DOG}, False)
    work(setup, CAT)
    assert (found(setup).outcomes, found(setup).is_done) == ({dog.id: DOG, cat.id: CAT}, True)


def test_who_waits_for_a_result_has_it_when_the_last_outcome_comes(setup: Setup) -> None:
    dog, _ = submit(setup, "dog.jpg", "cat.jpg")
    worker = threading.Thread(target=work, args=(setup, DOG, CAT))
    worker.start()
    result = found(setup, wait_s=20)
    worker.join()
    assert result.is_done
    assert result.outcomes[dog.id] == DOG


def test_nobody_waits_longer_than_wanted(setup: Setup) -> None:
    submit(setup, "dog.jpg")
    assert not found(setup, wait_s=0.05).is_done
    assert setup.results.get("r1", 60, stopped=lambda: True) == found(setup)


def test_before_the_service_stops_nobody_is_kept_waiting(setup: Setup) -> None:
    submit(setup, "dog.jpg")
    got: list[Result | None] = []
    waiting = threading.Thread(target=lambda: got.append(setup.results.get("r1", 60)))
    waiting.start()
    setup.results.stop_waiting()
    waiting.join(10)
    assert not waiting.is_alive()


@pytest.mark.parametrize("image_names", [("dog.jpg", "dog.jpg"), ("dog.jpg", "dog.jpg", "dog.jpg")])
def test_the_same_image_is_computed_once_for_all_that_want_it(setup: Setup, image_names: tuple[str, ...]) -> None:
    jobs = submit(setup, *image_names)
    work(setup, DOG)
    assert found(setup).outcomes == {job.id: DOG for job in jobs}


def test_a_cached_prediction_is_added_at_once(setup: Setup) -> None:
    submit(setup, "dog.jpg")
    work(setup, DOG)
    [job] = submit(setup, "dog.jpg")
    assert found(setup).outcomes[job.id] == DOG


def test_an_expired_job_has_the_outcome_that_it_came_too_late(setup: Setup) -> None:
    [job] = submit(setup, "dog.jpg", timeout_s=0.02)
    assert not found(setup, wait_s=0.05).is_done
    setup.queue.heartbeat("w1", 0.01, "m1")
    [taken] = setup.queue.take_batch("w1", 1, 0.05)
    failure = taken.failure()
    assert failure == JobFailure.of(DeadlinePassed())
    setup.queue.finish([(taken, failure)])
    assert found(setup).outcomes == {job.id: failure}


def test_jobs_that_nobody_waits_for_leave_half_of_the_places_to_others(setup: Setup) -> None:
    submit(setup, "a.jpg", "b.jpg")
    with pytest.raises(QueueFull):
        setup.queue.submit_kept(ImageJob.create("c.jpg", 10), "r1")
    assert setup.queue.refusal() is None  # it says nothing about other jobs
    for name in ("c.jpg", "d.jpg"):
        setup.queue.submit(ImageJob.create(name, 10))


def test_of_jobs_that_nobody_waits_for_only_so_many_wait_for_the_same_image(setup: Setup) -> None:
    submit(setup, "dog.jpg", *["dog.jpg"] * MAX_JOINED)
    with pytest.raises(QueueFull):
        setup.queue.submit_kept(ImageJob.create("dog.jpg", 10), "r1")
    waited_for = ImageJob.create("dog.jpg", 10)
    assert setup.queue.submit(waited_for) == "joined"
    work(setup, DOG)
    assert setup.queue.wait(waited_for) == DOG
    assert len(found(setup).outcomes) == 1 + MAX_JOINED


def is_refused(setup: Setup) -> bool:
    try:
        setup.queue.submit_kept(ImageJob.create("dog.jpg", 10), "r1")
    except NoWorker:
        return True
    return False


def test_without_a_worker_a_job_is_refused(setup: Setup) -> None:
    deadline = time.monotonic() + 10  # a Redis that has only just started is given a moment
    while not is_refused(setup):
        assert time.monotonic() < deadline
        setup.queue.finish((delivery, DOG) for delivery in setup.queue.take_batch("w1", 10, 0.01))


def test_a_result_that_is_done_is_kept_with_its_outcomes(setup: Setup) -> None:
    result = Result({"images": ["ä"]}, ("j1",), {"j1": DOG})
    setup.results.keep("r2", result, TTL_S)
    assert found(setup, "r2") == result
    setup.results.drop("r2")
    assert setup.results.get("r2") is None


def test_an_outcome_of_a_result_that_is_gone_is_dropped(setup: Setup) -> None:
    submit(setup, "dog.jpg")
    setup.results.drop("r1")
    work(setup, DOG)
    setup.results.add("r1", "j1", DOG)
    assert setup.results.get("r1") is None
    assert setup.results.get("never-kept", 60) is None


def test_a_text_is_claimed_once(setup: Setup) -> None:
    claim: Callable[[str], str | None] = lambda text: setup.results.claim("k", text, TTL_S)  # noqa: E731
    assert [claim("one"), claim("two")] == [None, "one"]
    setup.results.settle("k", "done", TTL_S)
    assert claim("two") == "done"
    setup.results.release("k")
    assert claim("two") is None


def test_a_reminder_comes_due_and_does_so_again_until_it_is_dropped(setup: Setup) -> None:
    setup.results.remind("soon", 0)
    setup.results.remind("later", 60)
    assert setup.results.due(again_s=60) == "soon"
    assert setup.results.due(again_s=60) is None
    setup.results.remind("soon", 0)
    assert setup.results.due(again_s=0) == "soon"
    assert setup.results.due(again_s=0) == "soon"
    setup.results.drop_reminder("soon")
    assert setup.results.due(again_s=0) is None
