"""The Redis queue beyond the contract: Redis going away and coming back."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from jobs.queue.interface import Delivery
from jobs.redis import shared_script as redis_shared_script
from jobs.redis import taking as redis_taking
from jobs.redis.queue import RedisJobQueue
from jobs.schema import ImageJob, JobFailure, Lane, ModelInfo, Outcome, Prediction
from runtime.errors import DeadlinePassed, NoSuchModel, NoWorker, QueueFull, QueueUnavailable, ServiceError, Stopping
from testing.redis_servers import RedisServer

DOG = Prediction("Eskimo_dog", 248, 0.64, "m1")
T = TypeVar("T")
LANES: list[Lane] = ["interactive", "bulk"]
# Longer than a test takes, even on a slow machine; and for tests that wait for a worker's death.
LONG_TTL_S, WORKER_TTL_S = 60.0, 0.6
# Redis counts times in whole milliseconds.
REDIS_CLOCK_STEP_S = 0.001


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def keeping_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path, keeps=True)
    yield server
    server.stop()


@pytest.fixture
def queue(server: RedisServer) -> Iterator[RedisJobQueue]:
    queue = RedisJobQueue(server.url, max_jobs=10)
    yield queue
    queue.close()


def answer_one(queue: RedisJobQueue) -> None:
    """Answer one job as a worker would."""
    queue.finish([(delivery, DOG) for delivery in until(lambda: queue.take_batch("w1", 1, 0.1))])


def submit_and_wait(queue: RedisJobQueue) -> Prediction:
    [job] = submit(queue, "dog.jpg")
    worker = threading.Thread(target=answer_one, args=(queue,))
    worker.start()
    try:
        return queue.wait(job)
    finally:
        worker.join()


def take(queue: RedisJobQueue, worker: str = "w1", most_s: float = 30) -> list[str]:
    """Return the images of the jobs that the worker gets."""
    return [delivery.job.image_name for delivery in until(lambda: take_now(queue, worker), most_s)]


def take_now(queue: RedisJobQueue, worker: str) -> list[Delivery]:
    queue.heartbeat(worker, 0.01, "m1")
    return queue.take_batch(worker, 10, 0.05)


def until(step: Callable[[], T], most_s: float = 30) -> T:
    """Return `step()`'s result as soon as it is true, or the one at the deadline."""
    deadline = time.monotonic() + most_s
    while not (found := step()) and time.monotonic() < deadline:
        pass
    return found


def submit(queue: RedisJobQueue, *image_names: str, lane: Lane = "interactive") -> list[ImageJob]:
    """Submit a job for each image, as if w1 were alive."""
    jobs = [ImageJob.create(name, 60, lane=lane) for name in image_names]
    for job in jobs:
        assert until(partial(is_accepted, queue, job))
    return jobs


def is_accepted(queue: RedisJobQueue, job: ImageJob, worker: str = "w1") -> bool:
    """Submit a job; return False if this took so long that the worker counts as dead again."""
    queue.heartbeat(worker, 0.01, "m1")
    try:
        queue.submit(job)
    except NoWorker:
        return False
    return True


def answer_all(queue: RedisJobQueue, jobs: list[ImageJob]) -> list[Prediction]:
    """Answer all jobs, and return the answers that their waiters get."""
    answered = threading.Event()

    def work() -> None:
        while not answered.is_set():
            queue.finish([(delivery, DOG) for delivery in take_now(queue, "w1")])

    with ThreadPoolExecutor(1 + len(jobs)) as pool:
        pool.submit(work)
        try:
            return list(pool.map(queue.wait, jobs))
        finally:
            answered.set()


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
def test_jobs_that_redis_lost_are_submitted_again_and_answered(
    server: RedisServer, queue: RedisJobQueue, lane: Lane
) -> None:
    jobs = submit(queue, "dog.jpg", "cat.jpg", lane=lane)
    take_now(queue, "w1")  # processing or waiting, it makes no difference
    server.stop()
    server.start()
    assert answer_all(queue, jobs) == [DOG, DOG]


def test_those_who_wait_for_the_same_image_are_answered_though_redis_lost_it(server: RedisServer) -> None:
    queue = RedisJobQueue(server.url, max_jobs=10, cache_ttl_s=60, cache_entries=10)
    jobs = submit(queue, "dog.jpg", "dog.jpg", "dog.jpg")
    server.stop()
    server.start()
    assert answer_all(queue, jobs) == [DOG, DOG, DOG]
    queue.close()


def test_a_job_submitted_again_has_the_time_that_was_left(server: RedisServer, queue: RedisJobQueue) -> None:
    [job] = submit(queue, "dog.jpg")
    server.stop()
    server.start()
    [delivery] = until(lambda: take_now(queue, "w1"))
    assert delivery.job.id == job.id
    assert 0 < delivery.job.timeout_s < job.timeout_s


def test_jobs_that_redis_kept_are_not_submitted_again(
    keeping_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    queue = RedisJobQueue(keeping_server.url, max_jobs=10)
    jobs = submit(queue, "dog.jpg") + submit(queue, "cat.jpg", lane="bulk")
    keeping_server.stop()
    keeping_server.start()
    assert answer_all(queue, jobs) == [DOG, DOG]
    assert until(lambda: "submitted 0 jobs again" in caplog.text)  # logged after the answers are handed out
    queue.close()


def test_a_job_of_another_version_of_this_code_keeps_nobody_from_being_answered(keeping_server: RedisServer) -> None:
    queue = RedisJobQueue(keeping_server.url, max_jobs=10)
    [job] = submit(queue, "dog.jpg")
    batch = take_now(queue, "w1")
    with redis.Redis.from_url(keeping_server.url) as connection:
        connection.xadd(
            "{mlapi}:jobs", {"job": '{"id": "other", "colour": "blue"}', "reply_to": "{mlapi}:replies:other"}
        )
    keeping_server.stop()
    keeping_server.start()
    queue.finish([(delivery, DOG) for delivery in batch])
    assert queue.wait(job) == DOG
    queue.close()


def test_an_answer_that_was_found_while_redis_was_away_is_taken_when_it_is_back(keeping_server: RedisServer) -> None:
    queue = RedisJobQueue(keeping_server.url, max_jobs=10)
    [job] = submit(queue, "dog.jpg")
    batch = take_now(queue, "w1")
    keeping_server.stop()
    keeping_server.start()
    queue.finish([(delivery, DOG) for delivery in batch])
    assert queue.wait(job) == DOG
    queue.close()


def test_a_request_that_comes_while_redis_starts_again_is_not_refused(
    keeping_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = Retry(ConstantBackoff(0.1), retries=300, supported_errors=(RedisConnectionError,))
    monkeypatch.setattr(redis_shared_script, "WHILE_IT_RESTARTS", patient)  # Redis may take long on a busy machine
    queue = RedisJobQueue(keeping_server.url, max_jobs=10, cache_ttl_s=60, cache_entries=10, worker_ttl_s=LONG_TTL_S)
    queue.heartbeat("w1", 0.01, "m1")
    keeping_server.stop()
    job = ImageJob.create("dog.jpg", 60)
    with ThreadPoolExecutor(1) as pool:
        submitted = pool.submit(queue.submit, job)
        keeping_server.start()
        submitted.result()
    assert answer_all(queue, [job]) == [DOG]
    with redis.Redis.from_url(keeping_server.url) as connection:
        assert connection.xlen("{mlapi}:jobs") == 0
    queue.close()


def test_a_request_that_comes_before_a_redis_without_memory_has_heard_of_a_worker_is_not_refused(
    server: RedisServer,
) -> None:
    queue = RedisJobQueue(server.url, max_jobs=10, worker_ttl_s=LONG_TTL_S)
    server.stop()
    server.start()
    job = ImageJob.create("dog.jpg", 60)
    queue.submit(job)
    assert answer_all(queue, [job]) == [DOG]
    queue.close()


def test_a_worker_that_lives_keeps_its_job_though_nobody_could_be_heard_of_for_a_while(
    keeping_server: RedisServer,
) -> None:
    ttl_s = 2.5  # many times the duration of the steps within it
    w1, w2 = (RedisJobQueue(keeping_server.url, max_jobs=10, worker_ttl_s=ttl_s) for _ in range(2))
    [job] = submit(w1, "dog.jpg")
    batch = take_now(w1, "w1")
    keeping_server.stop()
    away_since = time.monotonic()
    while time.monotonic() < away_since + 1.2 * ttl_s:
        with pytest.raises(QueueUnavailable):
            w2.take_batch("w2", 10, 0.05)
    keeping_server.start()
    assert take(w2, "w2", most_s=ttl_s / 10) == []  # w2 sends its heartbeat before w1
    w1.heartbeat("w1", 0.01, "m1")
    assert take(w2, "w2", most_s=ttl_s / 10) == []
    w1.finish([(delivery, DOG) for delivery in batch])
    assert w1.wait(job) == DOG
    for queue in (w1, w2):
        queue.close()


def test_a_worker_that_was_silent_itself_takes_from_nobody(server: RedisServer) -> None:
    queue = RedisJobQueue(server.url, max_jobs=10, worker_ttl_s=WORKER_TTL_S)
    submit(queue, "dog.jpg")
    assert take(queue, "w1") == ["dog.jpg"]
    assert until(lambda: queue.take_batch("w2", 10, 0.05), 3 * WORKER_TTL_S) == []
    assert take(queue, "w2") == ["dog.jpg"]
    queue.close()


def test_a_worker_that_redis_has_not_heard_of_yet_keeps_what_it_took(server: RedisServer) -> None:
    queue = RedisJobQueue(server.url, max_jobs=10, worker_ttl_s=WORKER_TTL_S)
    assert until(partial(is_accepted, queue, ImageJob.create("dog.jpg", 60), "w2"))
    not_taken_before = time.monotonic()
    assert len(queue.take_batch("w1", 10, 0.05)) == 1
    assert take(queue, "w2") == ["dog.jpg"]
    assert time.monotonic() - not_taken_before > WORKER_TTL_S - REDIS_CLOCK_STEP_S
    queue.close()


@pytest.mark.parametrize("name", ["maxmemory", "min-replicas-to-write"])
def test_a_redis_that_takes_nothing_counts_as_away_until_it_does(server: RedisServer, name: str) -> None:
    # Longer than a request waits for a Redis that may be about to come back.
    queue = RedisJobQueue(server.url, max_jobs=10, worker_ttl_s=LONG_TTL_S)
    queue.heartbeat("w1", 0.01, "m1")
    connection: Any = redis.Redis.from_url(server.url)
    connection.config_set(name, "1")
    with pytest.raises(QueueUnavailable):
        queue.submit(ImageJob.create("dog.jpg", 60))
    with pytest.raises(QueueUnavailable):
        queue.heartbeat("w1", 0.01, "m1")
    connection.config_set(name, "0")
    connection.close()
    assert submit_and_wait(queue) == DOG
    queue.close()


def test_a_redis_that_has_become_a_replica_counts_as_away_and_its_connections_end(
    server: RedisServer, queue: RedisJobQueue
) -> None:
    queue.heartbeat("w1", 0.01, "m1")
    with redis.Redis.from_url(server.url) as connection:
        assert len(connection.client_list()) == 2
        connection.execute_command("REPLICAOF", "127.0.0.1", "1")  # this ends no connection by itself
        with pytest.raises(QueueUnavailable):
            queue.heartbeat("w1", 0.01, "m1")
        assert until(lambda: len(connection.client_list()) == 1)
        with pytest.raises(QueueUnavailable):  # in other words than for a script
            queue.publish(ModelInfo("m1", labels=("dog",)))
        assert until(lambda: len(connection.client_list()) == 1)


def test_the_images_set_aside_last_are_kept(queue: RedisJobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_taking, "MAX_SET_ASIDE", 2)
    monkeypatch.setattr(redis_taking, "MAX_DEATHS", 0)

    def set_aside(name: str) -> bool:
        take_now(queue, "w1")
        return name in names()

    def names() -> list[str]:
        return [image.image_name for image in queue.set_aside_images()]

    for name in ("a.png", "b.png", "c.png"):
        submit(queue, name)
        assert until(partial(set_aside, name))
    assert names() == ["b.png", "c.png"]


def test_while_redis_is_away_every_call_says_so(server: RedisServer, queue: RedisJobQueue) -> None:
    server.stop()
    for call in (
        lambda: queue.submit(ImageJob.create("dog.jpg", 60)),
        lambda: queue.take_batch("w1", 1, 0.1),
        lambda: queue.heartbeat("w1", 0.01, "m1"),
        lambda: queue.retire("w1"),
        lambda: queue.publish(ModelInfo("m1", labels=("dog",))),
        queue.live_workers,
        queue.labels,
        queue.model,
    ):
        with pytest.raises(QueueUnavailable):
            call()


def test_what_redis_says_of_itself_is_logged_and_not_told_to_clients(
    server: RedisServer, queue: RedisJobQueue, caplog: pytest.LogCaptureFixture
) -> None:
    server.stop()
    with pytest.raises(QueueUnavailable) as refused:
        queue.live_workers()
    assert str(refused.value) == QueueUnavailable.message
    assert server.url.removeprefix("redis://") in caplog.text


def test_many_more_threads_than_redis_py_has_connections_for_use_the_queue_at_once(queue: RedisJobQueue) -> None:
    all_there = threading.Barrier(200)

    def wait_for_a_job(number: int) -> list[Delivery]:
        all_there.wait(60)
        return queue.take_batch(f"w{number}", 1, wait_s=2)

    with ThreadPoolExecutor(200) as pool:
        assert list(pool.map(wait_for_a_job, range(200))) == [[]] * 200


def test_after_redis_lost_everything_jobs_are_answered_again(server: RedisServer, queue: RedisJobQueue) -> None:
    assert submit_and_wait(queue) == DOG
    server.stop()
    server.start()
    assert submit_and_wait(queue) == DOG


def test_after_redis_lost_everything_labels_are_published_anew(server: RedisServer, queue: RedisJobQueue) -> None:
    queue.publish(ModelInfo("m1", labels=("dog",)))
    server.stop()
    server.start()
    queue.publish(ModelInfo("m1", labels=("dog",)))
    queue.heartbeat("w1", 0.01, "m1")
    assert list(queue.labels()) == ["dog"]


def test_labels_are_fetched_once(server: RedisServer, queue: RedisJobQueue) -> None:
    queue.heartbeat("w1", 0.01, "m1")
    queue.publish(ModelInfo("m1", labels=("dog",)))
    assert list(queue.labels()) == ["dog"]
    with redis.Redis.from_url(server.url) as connection:
        connection.delete("{mlapi}:model:m1")
    assert list(queue.labels()) == ["dog"]


def test_the_labels_of_the_first_model_are_known_as_soon_as_it_is(queue: RedisJobQueue) -> None:
    assert list(queue.labels()) == []
    queue.publish(ModelInfo("m1", labels=("dog",)))
    queue.heartbeat("w1", 0.01, "m1")
    assert list(queue.labels()) == ["dog"]


def pass_days(server: RedisServer, days: int) -> None:
    """Delete the keys that would have expired by then, including the workers' heartbeats."""
    with redis.Redis.from_url(server.url) as connection:
        for key in connection.scan_iter():
            if 0 <= connection.ttl(key) <= days * 86_400:
                connection.delete(key)
        connection.delete(*connection.scan_iter("{mlapi}:workers*"))


def test_the_default_model_is_known_by_its_name_though_its_workers_are_long_gone_and_not_those_beside_them(
    server: RedisServer,
) -> None:
    queue = RedisJobQueue(server.url, max_jobs=10, without_worker=True)
    beside = RedisJobQueue(server.url, max_jobs=10, pool="cars@1")
    for pool, name in ((queue, "pets"), (beside, "cars")):
        pool.publish(ModelInfo(f"{name}-id", name, "1"))
        pool.heartbeat(name, 0.01, f"{name}-id")
    pass_days(server, 30)
    for name in ("", "pets", "pets@1"):
        queue.submit(ImageJob.create(f"{name}.jpg", 60, model=name))
    with pytest.raises(NoSuchModel):
        queue.submit(ImageJob.create("car.jpg", 60, model="cars"))
    assert take(queue) == [".jpg", "pets.jpg", "pets@1.jpg"]
    pass_days(server, 366)
    assert queue.figures().versions == ()
    queue.close()
    beside.close()


def test_what_is_answered_leaves_the_queue_and_its_reply_is_forgotten_in_time(
    server: RedisServer, queue: RedisJobQueue
) -> None:
    submit_and_wait(queue)
    with redis.Redis.from_url(server.url) as connection:
        assert connection.xlen("{mlapi}:jobs") == 0
        [replies] = connection.scan_iter("{mlapi}:replies:*")
        assert 0 < connection.ttl(replies) <= 300


def test_all_who_wait_for_one_image_are_answered_however_many_they_are(server: RedisServer) -> None:
    many = 6000
    queue = RedisJobQueue(server.url, max_jobs=10, cache_ttl_s=60, cache_entries=10, worker_ttl_s=LONG_TTL_S)
    queue.heartbeat("w1", 0.01, "m1")
    jobs = [ImageJob.create("dog.jpg", 120) for _ in range(many)]
    with ThreadPoolExecutor(64) as pool:
        assert sorted(pool.map(queue.submit, jobs)) == ["accepted"] + ["joined"] * (many - 1)
    answer_one(queue)
    assert all(queue.wait(job) == DOG for job in jobs)
    with redis.Redis.from_url(server.url) as connection:
        [replies] = connection.scan_iter("{mlapi}:replies:*")
        assert connection.xlen(replies) < many / 2  # the others were read and removed
    queue.close()


def test_the_cache_keeps_the_latest_predictions_only(server: RedisServer) -> None:
    queue = RedisJobQueue(server.url, max_jobs=10, cache_ttl_s=60, cache_entries=2)
    for image in "abc":
        submit(queue, image)
        answer_one(queue)
    queue.close()
    with redis.Redis.from_url(server.url) as connection:
        assert sorted(connection.scan_iter("{mlapi}:prediction:*")) == [
            b"{mlapi}:prediction:m1:b",
            b"{mlapi}:prediction:m1:c",
        ]
        assert connection.zcard("{mlapi}:cached") == 2
        assert 0 < connection.ttl("{mlapi}:prediction:m1:c") <= 60


class Chance:
    """Does to a queue, in random order, everything that can happen to its jobs."""

    _SIZES_BYTES: ClassVar = {"a": 1, "b": 10, "c": 50, "d": 130, "e": 200, "f": 260, "g": 300}

    def __init__(self, server: RedisServer, seed: int) -> None:
        self._queue = RedisJobQueue(server.url, max_jobs=8, max_bytes=600, cache_ttl_s=60, worker_ttl_s=0.02)
        self._redis: Any = redis.Redis.from_url(server.url)
        self._random = random.Random(seed)  # noqa: S311 - nothing is to be kept secret
        self._submitted: list[ImageJob] = []
        self._taken: list[Delivery] = []

    def step(self) -> None:
        """Do one thing."""
        self._queue.heartbeat("w1", 0.01, "m1")
        self._random.choice([self._submit, self._submit, self._take, self._finish, self._hang_up])()

    def _submit(self) -> None:
        image, size_bytes = self._random.choice(list(self._SIZES_BYTES.items()))
        timeout_s, lane = self._random.choice([0.01, 10]), self._random.choice(LANES)
        job = ImageJob.create(image, timeout_s, size_bytes=size_bytes, lane=lane)
        with suppress(QueueFull, NoWorker):  # if w1 has died since its last heartbeat
            self._queue.submit(job)
            self._submitted.append(job)

    def _take(self) -> None:
        # Every worker dies at once, and sometimes a job ends two of them.
        self._queue.heartbeat(worker := f"w{self._random.randint(2, 9)}", 0.01, "m1")
        self._taken += self._queue.take_batch(worker, 3, 0.001)

    def _finish(self) -> None:
        outcomes: list[Outcome] = [DOG, JobFailure.of(DeadlinePassed())]
        self._queue.finish((delivery, self._random.choice(outcomes)) for delivery in self._taken[:2] * 2)
        del self._taken[:2]

    def _hang_up(self) -> None:
        if self._submitted:
            job = self._submitted.pop(self._random.randrange(len(self._submitted)))
            self._queue.cancel(job)
            with suppress(ServiceError):
                self._queue.wait(job)

    def counted_bytes(self) -> list[int]:
        """Return the recorded bytes of waiting jobs, by lane."""
        return [int(self._redis.get(key) or 0) for key in ("{mlapi}:queued-bytes", "{mlapi}:queued-bytes:bulk")]

    def queued_bytes(self) -> list[int]:
        """Return the actual bytes of waiting jobs, by lane."""
        return [
            sum(ImageJob.decode(fields[b"job"]).size_bytes for _, fields in self._redis.xrange(key))
            for key in ("{mlapi}:jobs", "{mlapi}:jobs:bulk")
        ]

    def close(self) -> None:
        """End connections."""
        self._queue.close()
        self._redis.close()


@pytest.mark.parametrize("seed", range(5))
def test_the_count_of_waiting_bytes_is_exact_whatever_happens_to_the_jobs(server: RedisServer, seed: int) -> None:
    chance = Chance(server, seed)
    queued = []
    for _ in range(400):
        chance.step()
        queued.append(chance.queued_bytes())
        assert chance.counted_bytes() == queued[-1]
    chance.close()
    assert all(len(set(lane)) > 5 for lane in zip(*queued, strict=True))
    assert max(map(sum, queued)) <= 600


def test_a_worker_answers_although_redis_has_forgotten_the_scripts(server: RedisServer, queue: RedisJobQueue) -> None:
    queue.heartbeat("w1", 0.01, "m1")
    jobs = [ImageJob.create(f"{number}.jpg", 60) for number in range(3)]
    for job in jobs:
        queue.submit(job)
    batch = until(lambda: queue.take_batch("w1", 10, 0.1))
    with redis.Redis.from_url(server.url) as connection:
        connection.script_flush()
    queue.finish([(delivery, DOG) for delivery in batch])
    assert [queue.wait(job) for job in jobs[: len(batch)]] == len(batch) * [DOG]


def test_a_job_that_comes_after_the_queue_was_closed_is_refused(queue: RedisJobQueue) -> None:
    queue.close()
    with pytest.raises(Stopping):
        queue.submit(ImageJob.create("a.jpg", 60))
