"""The contract of a queue's two lanes; like the rest of the contract, tested in memory and on Redis."""

import pytest

from jobs.queue.interface import JobQueue
from jobs.schema import ImageJob
from runtime.errors import QueueFull
from testing.queues import CAT, DOG, MakeQueue, finish_all, names, submit, take, take_now, workers_soon_die


def test_interactive_jobs_overtake_bulk_jobs(queue: JobQueue) -> None:
    bulk = submit(queue, "b1", "b2", lane="bulk")
    interactive = submit(queue, "i1", "i2")
    batch = take(queue)
    assert names(batch) == ["i1", "i2"]
    queue.finish([(delivery, DOG) for delivery in batch])
    assert [queue.wait(job) for job in interactive] == [DOG, DOG]
    while batch := take_now(queue, "w1"):
        queue.finish([(delivery, CAT) for delivery in batch])
    assert [queue.wait(job) for job in bulk] == [CAT, CAT]


@pytest.mark.parametrize(("max_jobs", "max_bulk", "taken"), [(10, 3, ["a", "b", "c"]), (2, 3, ["a", "b"])])
def test_bulk_jobs_alone_are_taken_in_batches(queue: JobQueue, max_jobs: int, max_bulk: int, taken: list[str]) -> None:
    submit(queue, *"abcde", lane="bulk")
    assert names(take_now(queue, "w1", max_jobs, max_bulk)) == taken


def test_a_worker_takes_only_its_share_of_the_bulk_jobs_while_others_live(queue: JobQueue) -> None:
    submit(queue, *"abcd", lane="bulk")
    queue.heartbeat("w2", 0.01, "m1")
    assert names(take_now(queue, "w1")) == ["a", "b"]


def test_while_interactive_jobs_come_bulk_jobs_are_taken_one_by_one(queue: JobQueue) -> None:
    submit(queue, "interactive")
    finish_all(queue)
    submit(queue, *"abc", lane="bulk")
    assert names(take(queue)) == ["a"]


def test_when_no_more_interactive_jobs_come_bulk_jobs_are_taken_in_batches_again(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("queue.memory", "redis.taking"):
        monkeypatch.setattr(f"jobs.{module}.LATELY_S", 0)
    submit(queue, "interactive")
    finish_all(queue)
    submit(queue, *"abc", lane="bulk")
    assert names(take(queue)) == ["a", "b", "c"]


@pytest.mark.parametrize("max_jobs", [1, 3, 10])
def test_however_many_interactive_jobs_come_bulk_jobs_advance(queue: JobQueue, max_jobs: int) -> None:
    submit(queue, *["interactive"] * 40)
    submit(queue, *"abcd", lane="bulk")
    taken: list[str] = []
    while len(taken) < 32:
        batch = take(queue, max_jobs=max_jobs)
        assert len(batch) <= max_jobs
        taken += [delivery.job.lane for delivery in batch]
        queue.finish([(delivery, DOG) for delivery in batch])
    assert 3 <= taken.count("bulk") <= 4


def test_interactive_jobs_come_first_in_a_batch(queue: JobQueue) -> None:
    submit(queue, *"abc", lane="bulk")
    submit(queue, *["interactive"] * 10)
    assert names(take(queue, max_jobs=8)) == ["interactive"] * 7 + ["a"]


@workers_soon_die
def test_what_a_dead_worker_held_of_both_lanes_goes_to_another(queue: JobQueue) -> None:
    submit(queue, *["i"] * 7)
    submit(queue, "b", lane="bulk")
    held = names(take(queue, "w1", max_jobs=8))
    assert sorted(held) == ["b", *["i"] * 7]
    claimed: list[str] = []
    while len(claimed) < len(held):
        batch = take(queue, "w2")
        claimed += names(batch)
        queue.finish([(delivery, DOG) for delivery in batch])
    assert sorted(claimed) == sorted(held)


def test_bulk_jobs_take_half_of_the_places_and_leave_the_others(make_queue: MakeQueue) -> None:
    queue = make_queue(max_jobs=6)
    submit(queue, *"abc", lane="bulk")
    with pytest.raises(QueueFull):
        submit(queue, "d", lane="bulk")
    assert queue.refusal() is None  # refusal() concerns interactive jobs only
    submit(queue, *"efg")
    with pytest.raises(QueueFull):
        submit(queue, "h")


def test_bulk_jobs_take_half_of_what_interactive_ones_leave(make_queue: MakeQueue) -> None:
    queue = make_queue(max_jobs=6)
    submit(queue, *"abcd")
    submit(queue, "e", lane="bulk")
    with pytest.raises(QueueFull):
        submit(queue, "f", lane="bulk")
    submit(queue, "g")


def test_bulk_jobs_take_half_of_the_bytes(make_queue: MakeQueue) -> None:
    queue = make_queue(max_bytes=100)
    submit(queue, "a", lane="bulk", size_bytes=40)
    with pytest.raises(QueueFull):
        submit(queue, "b", lane="bulk", size_bytes=20)
    submit(queue, "c", size_bytes=60)
    with pytest.raises(QueueFull):
        submit(queue, "d", size_bytes=1)


def test_the_time_that_bulk_jobs_take_has_no_interactive_job_refused(queue: JobQueue) -> None:
    submit(queue, *["bulk"] * 20, lane="bulk", timeout_s=100)
    queue.heartbeat("w1", 1.0, "m1")
    queue.submit(ImageJob.create("interactive", 10))
    with pytest.raises(QueueFull) as refused:
        queue.submit(ImageJob.create("bulk", 10, lane="bulk"))
    assert refused.value.retry_after_s == queue.retry_after_s("bulk") == 21
    assert queue.retry_after_s() == 1


def test_the_bulk_jobs_that_go_between_interactive_ones_count_for_their_time(queue: JobQueue) -> None:
    submit(queue, *["bulk"] * 20, lane="bulk", timeout_s=100)
    submit(queue, *["interactive"] * 13, timeout_s=100)
    queue.heartbeat("w1", 1.0, "m1")
    queue.submit(ImageJob.create("interactive", 100))
    assert queue.retry_after_s() == 15


def test_a_bulk_job_in_flight_is_computed_once_for_all_bulk_jobs(caching_queue: JobQueue) -> None:
    jobs = submit(caching_queue, "dog.jpg", "dog.jpg", lane="bulk")
    batch = take(caching_queue)
    assert names(batch) == ["dog.jpg"]
    caching_queue.finish([(batch[0], DOG)])
    assert [caching_queue.wait(job) for job in jobs] == [DOG, DOG]


def test_an_interactive_job_does_not_wait_for_its_image_behind_bulk_jobs(caching_queue: JobQueue) -> None:
    bulk = submit(caching_queue, "cat.jpg", "dog.jpg", lane="bulk")
    [job] = submit(caching_queue, "dog.jpg")
    batch = take(caching_queue)
    assert [(delivery.job.image_name, delivery.job.lane) for delivery in batch] == [("dog.jpg", "interactive")]
    caching_queue.finish([(batch[0], DOG)])
    assert caching_queue.wait(job) == DOG
    finish_all(caching_queue)
    assert [caching_queue.wait(job) for job in bulk] == [DOG, DOG]
