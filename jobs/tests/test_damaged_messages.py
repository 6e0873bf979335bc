"""Messages in Redis may be of another version, or damaged: they end no process, and are answered where possible."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from jobs.queue.figures import Examined, WorkerReport
from jobs.queue.interface import Delivery
from jobs.redis import keys
from jobs.redis.loads import Load, RedisLoads
from jobs.redis.queue import RedisJobQueue
from jobs.redis.results import RedisResults
from jobs.results import Result
from jobs.schema import ImageJob, JobFailure, Lane, ModelInfo, Outcome, SetAsideImage, encode_outcome
from runtime.errors import DeadlinePassed, NoSuchModel, UnreadableMessage
from testing.queues import CAT, DOG, submit, take, take_now, until

# Not text, not JSON, not an object, nested too deeply; and objects that are neither a job nor an outcome.
DAMAGED = [b"", b"\xff\xfe", b"{", b"null", b"[]", b"7", b"[" * 100_000]
OTHER = [b"{}", b'{"id": 7, "image_name": []}', b'{"prediction": {"label": null}}', b'{"failure": 7}']
LONG_TTL_S = 60


@pytest.fixture
def connection(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as connection:
        connection.flushall()
        yield connection


@pytest.fixture
def queue(redis_url: str, connection: Any) -> Iterator[RedisJobQueue]:
    assert connection.dbsize() == 0
    queue = RedisJobQueue(redis_url, max_jobs=100, cache_ttl_s=60, cache_entries=10, worker_ttl_s=LONG_TTL_S)
    queue.heartbeat("w1", 0.01, "m1")
    yield queue
    queue.close()


def finish(queue: RedisJobQueue, taken: list[Delivery]) -> None:
    """Finish jobs as a worker does, including those to answer untried."""
    queue.finish([(delivery, delivery.failure() or DOG) for delivery in taken])


def work_off(queue: RedisJobQueue, stream: str, connection: Any) -> None:
    """Finish jobs until there are none."""

    def step() -> bool:
        finish(queue, take_now(queue, "w1"))
        return bool(connection.xlen(stream) == 0)

    assert until(step)


def changed(job: ImageJob, **fields: object) -> bytes:
    """Return a job as it is written, with other fields."""
    return json.dumps({**json.loads(job.encode()), **fields}).encode()


def test_fields_of_a_later_version_are_left_out(queue: RedisJobQueue, connection: Any) -> None:
    job = ImageJob.create("dog.jpg", 60)
    connection.xadd("{mlapi}:jobs", {"job": changed(job, colour="blue"), "reply_to": keys.REPLIES, "more": "1"})
    [delivery] = take(queue)
    assert (delivery.job, delivery.failure()) == (job, None)


@pytest.mark.parametrize(
    ("decode", "written"),
    [
        (ImageJob.decode, ImageJob.create("a.png", 1).encode()),
        (ModelInfo.decode, ModelInfo("m1", labels=("dog",)).encode()),
        (SetAsideImage.decode, SetAsideImage("a.png", "j1", "w1", 1.5).encode()),
        (WorkerReport.decode, WorkerReport("m1", batches={1: 2}).encode()),
        (Load.decode, b'{"state": "ready", "version": "pets@1", "error": ""}'),
    ],
)
def test_every_message_may_have_a_field_more(decode: Callable[[bytes], object], written: bytes) -> None:
    assert decode(json.dumps({**json.loads(written), "colour": "blue"}).encode()) == decode(written)


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
@pytest.mark.parametrize("timeout_s", ["soon", None, [60]])
def test_a_job_that_cannot_be_read_is_answered_and_removed_and_so_are_those_that_joined_it(
    queue: RedisJobQueue, connection: Any, lane: Lane, timeout_s: object
) -> None:
    jobs = submit(queue, "dog.jpg", "dog.jpg", "cat.jpg", lane=lane)
    stream = keys.pool("").lanes[lane].jobs
    [(first, fields), *_] = connection.xrange(stream)
    connection.xadd(stream, {**fields, "job": changed(jobs[0], timeout_s=timeout_s)})
    connection.xdel(stream, first)
    work_off(queue, stream, connection)
    for job in jobs[:2]:
        with pytest.raises(UnreadableMessage):
            queue.wait(job)
    assert queue.wait(jobs[2]) == DOG


@pytest.mark.parametrize("outcome", [DOG, JobFailure.of(DeadlinePassed())])
@pytest.mark.parametrize("damaged", DAMAGED)
def test_one_who_waits_for_the_same_image_and_cannot_be_read_keeps_no_other_from_being_answered(
    queue: RedisJobQueue, connection: Any, damaged: bytes, outcome: Outcome
) -> None:
    *_, other = submit(queue, "dog.jpg", "dog.jpg", "dog.jpg")
    connection.lset(keys.pool("").lanes["interactive"].in_flight + "dog", 1, damaged)
    queue.finish([(delivery, outcome) for delivery in take(queue)])
    work_off(queue, "{mlapi}:jobs", connection)
    assert queue.wait(other) == DOG


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
@pytest.mark.parametrize(
    "fields",
    [
        *({"job": data, "reply_to": keys.REPLIES + "x"} for data in (*DAMAGED, *OTHER)),
        {"job": b"{}"},
        {"job": b"{}", "reply_to": b"\xff"},
        {"job": b"{}", "reply_to": "another:key"},
        {"reply_to": keys.REPLIES + "x"},
        {"colour": "blue"},
    ],
)
def test_whatever_is_in_a_stream_of_jobs_leaves_it_and_keeps_nobody_from_being_answered(
    queue: RedisJobQueue, connection: Any, lane: Lane, fields: dict[Any, Any]
) -> None:
    stream = keys.pool("").lanes[lane].jobs
    connection.xadd(stream, fields)
    [job] = submit(queue, "dog.jpg", lane=lane)
    queue.queued_images()
    work_off(queue, stream, connection)
    assert queue.wait(job) == DOG
    assert connection.xpending(stream, keys.GROUP)["pending"] == 0


@pytest.mark.parametrize("written", [b"{", b"{}", changed(ImageJob.create("bomb.png", 60), timeout_s="soon")])
def test_an_unreadable_job_that_dead_workers_held_is_given_up_as_any_other(
    redis_url: str, connection: Any, written: bytes
) -> None:
    queue = RedisJobQueue(redis_url, max_jobs=10, worker_ttl_s=0.4)
    queue.heartbeat("w1", 0.01, "m1")
    connection.xadd("{mlapi}:jobs", {"job": written, "reply_to": keys.REPLIES + "x"})
    for worker in ("w1", "w2"):
        [delivery] = take(queue, worker)
        assert delivery.failure() == JobFailure.of(UnreadableMessage())
    until(lambda: take_now(queue, "w3") or connection.xlen("{mlapi}:jobs") == 0)
    assert connection.xlen("{mlapi}:jobs") == 0
    queue.close()


@pytest.mark.parametrize("damaged", [*DAMAGED, *OTHER])
def test_a_damaged_reply_fails_its_request_alone(queue: RedisJobQueue, connection: Any, damaged: bytes) -> None:
    dog, cat = submit(queue, "dog.jpg", "cat.jpg")
    [stream] = {fields[b"reply_to"] for _, fields in connection.xrange("{mlapi}:jobs")}
    connection.xadd(stream, {"colour": "blue"})
    connection.xadd(stream, {"job_id": b"\xff", "outcome": b"{}"})
    connection.xadd(stream, {"job_id": dog.id, "outcome": damaged})
    connection.xadd(stream, {"job_id": cat.id, "outcome": encode_outcome(CAT)})
    with pytest.raises(UnreadableMessage):
        queue.wait(dog)
    assert queue.wait(cat) == CAT


@pytest.mark.parametrize("damaged", DAMAGED)
def test_a_damaged_number_of_bytes_keeps_no_job_from_being_taken_and_answered(
    queue: RedisJobQueue, connection: Any, damaged: bytes
) -> None:
    numbers = [lane.queued_bytes for lane in keys.pool("").lanes.values()]
    jobs = submit(queue, "dog.jpg")
    connection.mset(dict.fromkeys(numbers, damaged))
    jobs += submit(queue, "cat.jpg")
    for number in numbers:
        connection.delete(number)
        connection.rpush(number, damaged)
    finish(queue, take(queue))
    assert [queue.wait(job) for job in jobs] == [DOG, DOG]
    assert connection.get(numbers[0]) == b"0"


@pytest.mark.parametrize("damaged", [*DAMAGED, *OTHER])
def test_an_image_whose_cached_prediction_is_damaged_is_computed_anew(
    queue: RedisJobQueue, connection: Any, damaged: bytes
) -> None:
    queue.publish(ModelInfo("m1", "pets", "1"))
    connection.set(keys.prediction_key("m1", "dog"), damaged)
    [job] = submit(queue, "dog.jpg")
    finish(queue, take(queue))
    assert queue.wait(job) == DOG


@pytest.mark.parametrize("damaged", DAMAGED)
def test_operators_see_all_that_is_not_damaged(queue: RedisJobQueue, connection: Any, damaged: bytes) -> None:
    for model in ("pets", "cars"):
        queue.publish(ModelInfo(f"{model}-id", model, "1"))
    queue.heartbeat("w1", 0.01, "pets-id")
    queue.report("w1", WorkerReport("pets-id"))
    queue.note_examined("pets-id", Examined(1, 2))
    for key in (keys.WORKER_REPORT + "w2", keys.MODEL_INFO + "cars-id"):
        connection.set(key, damaged)
    for key in (keys.ROUTES, keys.SET_ASIDE, keys.EXAMINED, keys.LOADS, keys.pool("").service_times):
        connection.hset(key, "w2", damaged)
    connection.hset(keys.EXAMINED, "pets-id", damaged)
    connection.hset(keys.comparison_key("pets-id", "pets-id"), "images", damaged)
    queue.heartbeat("w2", 0.01, "pets-id")
    connection.hset(keys.pool("").service_times, "w2", damaged)
    figures = queue.figures()
    assert [worker.report for worker in figures.workers] == [WorkerReport("pets-id"), None]
    assert [version.version.name for version in figures.versions] == ["pets@1"]
    assert queue.model() == ModelInfo("pets-id", "pets", "1")
    assert [image.image_hash for image in queue.set_aside_images()] == ["w2"]
    assert queue.release("w2")
    with pytest.raises(NoSuchModel):
        queue.versions().find("cars")


def test_what_is_known_of_a_model_and_damaged_is_published_anew(queue: RedisJobQueue, connection: Any) -> None:
    connection.set(keys.MODEL_INFO + "m1", b"{")
    assert queue.model("m1") is None
    queue.publish(ModelInfo("m1", "pets", "1"))
    assert queue.model("m1") == ModelInfo("m1", "pets", "1")


@pytest.mark.parametrize("damaged", [*DAMAGED, *OTHER])
def test_a_kept_result_is_there_without_what_is_damaged(redis_url: str, connection: Any, damaged: bytes) -> None:
    results = RedisResults(redis_url, max_bytes=100_000)
    for result_id in ("r1", "r2"):
        results.keep(result_id, Result({"top_k": 1}, ("a", "b"), {"a": DOG}), 60)
    connection.xadd(keys.RESULT + "r1", {"job_id": "b", "outcome": damaged})
    connection.xadd(keys.RESULT + "r1", {"outcome": damaged})
    found = results.get("r1")
    assert found is not None
    assert found.outcomes["a"] == DOG
    assert found.outcomes["b"] == JobFailure.of(UnreadableMessage())
    [(_, fields), *_] = connection.xrange(keys.RESULT + "r2")
    connection.delete(keys.RESULT + "r2")
    connection.xadd(keys.RESULT + "r2", {**fields, "request": b"{" + damaged})
    assert results.get("r2") is None
    results.close()


def test_of_the_folders_to_load_those_are_left_out_that_cannot_be_read(redis_url: str, connection: Any) -> None:
    loads = RedisLoads(redis_url)
    loads.write("pets", Load("ready", "pets@1"))
    for number, damaged in enumerate([*DAMAGED, b'{"state": "dance"}']):
        connection.hset(keys.LOADS, f"cars{number}", damaged)
    assert loads.read() == {"pets": Load("ready", "pets@1")}
    loads.close()


def test_what_is_damaged_is_logged_once(
    queue: RedisJobQueue, connection: Any, caplog: pytest.LogCaptureFixture
) -> None:
    connection.hset(keys.ROUTES, "dogs-and-cats", b"{")
    for _ in range(3):
        queue.figures()
    assert caplog.text.count("the route of b'dogs-and-cats' cannot be read") == 1
