"""The contract of every job queue: these tests run on the queue in memory and the queue on Redis."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from jobs.queue.figures import QueueFigures, WorkerReport
from jobs.queue.interface import Delivery, JobQueue
from jobs.schema import ImageJob, JobFailure, Lane, ModelInfo
from runtime.errors import ClientGone, DeadlinePassed, NotAnImage, NoWorker, QueueFull, SetAside, Stopping
from testing.queues import CAT, DOG, MakeQueue, finish_all, names, submit, take, take_now, until, workers_soon_die


def test_a_job_comes_back_with_its_prediction(queue: JobQueue) -> None:
    [job] = submit(queue, "dog.jpg")
    queue.finish([(delivery, DOG) for delivery in take(queue)])
    assert queue.wait(job) == DOG


def test_jobs_are_taken_oldest_first_and_answers_find_their_own_job(queue: JobQueue) -> None:
    dog, cat = submit(queue, "dog.jpg", "cat.jpg")
    batch = take(queue)
    assert names(batch) == ["dog.jpg", "cat.jpg"]
    queue.finish([(batch[1], CAT), (batch[0], DOG)])
    assert (queue.wait(dog), queue.wait(cat)) == (DOG, CAT)


def test_a_failure_is_raised_as_the_error_it_stands_for(queue: JobQueue) -> None:
    [job] = submit(queue, "broken.jpg")
    failure = JobFailure.of(NotAnImage("The file is truncated."))
    queue.finish([(delivery, failure) for delivery in take(queue)])
    with pytest.raises(NotAnImage, match="truncated"):
        queue.wait(job)


def test_a_batch_holds_no_more_than_asked_for(queue: JobQueue) -> None:
    submit(queue, *"abcde")
    assert names(take(queue, max_jobs=2)) == ["a", "b"]


def test_a_worker_takes_only_its_share_while_others_live(queue: JobQueue) -> None:
    submit(queue, *"abcd")
    queue.heartbeat("w2", 0.01, "m1")
    assert names(take_now(queue, "w1")) == ["a", "b"]


def test_no_job_is_held_by_two_workers_that_live(queue: JobQueue) -> None:
    submit(queue, *"abcdef")

    def drain(worker: str) -> list[str]:
        held: list[Delivery] = []
        while batch := take_now(queue, worker, 2):
            held += batch
            queue.finish([(delivery, DOG) for delivery in batch])
        return names(held)

    with ThreadPoolExecutor(3) as pool:
        taken = list(pool.map(drain, ["w1", "w2", "w3"]))
    assert sorted(name for worker in taken for name in worker) == list("abcdef")


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
def test_a_worker_that_waits_gets_a_job_the_moment_it_comes(queue: JobQueue, lane: Lane) -> None:
    queue.heartbeat("w1", 0.01, "m1")
    taken: list[Delivery] = []
    waiting = threading.Thread(target=lambda: taken.extend(until(lambda: queue.take_batch("w1", 10, 5))))
    waiting.start()
    submit(queue, "dog.jpg", lane=lane)
    waiting.join(4)  # less than the worker was ready to wait
    assert names(taken) == ["dog.jpg"]


@workers_soon_die
@pytest.mark.parametrize("lane", ["interactive", "bulk"])
def test_what_a_dead_worker_held_goes_to_another_one_job_at_a_time(queue: JobQueue, lane: Lane) -> None:
    dog, _ = submit(queue, "dog.jpg", "cat.jpg", lane=lane)
    assert names(take(queue, "w1")) == ["dog.jpg", "cat.jpg"]  # w1 sends no more heartbeats
    batch = take(queue, "w2")
    assert names(batch) == ["dog.jpg"]
    queue.finish([(batch[0], DOG)])
    assert queue.wait(dog) == DOG
    assert names(take(queue, "w2")) == ["cat.jpg"]


@pytest.mark.parametrize("worker_ttl_s", [2])  # many times the heartbeat interval
def test_a_slow_worker_that_lives_keeps_its_job(queue: JobQueue, worker_ttl_s: float) -> None:
    submit(queue, "dog.jpg")
    take(queue, "w1")

    def steal() -> list[Delivery]:
        queue.heartbeat("w1", 0.01, "m1")
        return take_now(queue, "w2")

    assert until(steal, timeout_s=1.5 * worker_ttl_s) == []


def test_a_job_lost_on_its_way_to_a_worker_is_delivered_to_it_again(queue: JobQueue) -> None:
    submit(queue, "dog.jpg")
    take(queue, "w1")
    assert names(take(queue, "w1")) == ["dog.jpg"]


@workers_soon_die
def test_a_job_that_ended_two_workers_is_set_aside_and_reported(queue: JobQueue) -> None:
    [job] = submit(queue, "bomb.png")
    assert names(take(queue, "w1")) == ["bomb.png"]
    assert names(take(queue, "w2")) == ["bomb.png"]
    assert until(lambda: take_now(queue, "w3") or queue.set_aside_images()) == queue.set_aside_images()
    with pytest.raises(SetAside):
        queue.wait(job)
    assert take_now(queue, "w3") == []


def set_aside(queue: JobQueue, image_name: str) -> ImageJob:
    """Submit an image and have it quarantined."""
    [job] = submit(queue, image_name)
    end_workers_of(queue)
    return job


def end_workers_of(queue: JobQueue) -> None:
    """Let two workers die of the one image in the queue, and a third give up on it."""
    known = len(queue.set_aside_images())
    take(queue, "w1")
    take(queue, "w2")
    until(lambda: take_now(queue, "w3") or len(queue.set_aside_images()) > known)


@workers_soon_die
def test_what_is_known_of_an_image_that_is_set_aside_can_be_listed(queue: JobQueue) -> None:
    before = time.time()
    job = set_aside(queue, "bomb.png")
    [image] = queue.set_aside_images()
    assert (image.image_name, image.image_hash, image.job_id, image.worker) == ("bomb.png", "bomb", job.id, "w2")
    assert before - 1 < image.at_s < time.time() + 1


@workers_soon_die
def test_images_set_aside_are_listed_oldest_first(queue: JobQueue) -> None:
    for name in ("a.png", "c.png", "b.png"):
        set_aside(queue, name)
    assert [image.image_name for image in queue.set_aside_images()] == ["a.png", "c.png", "b.png"]


@workers_soon_die
def test_an_image_set_aside_ends_no_further_worker_however_often_it_is_sent(queue: JobQueue) -> None:
    set_aside(queue, "bomb.png")
    again, _ = submit(queue, "bomb.jpg", "dog.jpg")  # the same content under another ending
    with pytest.raises(SetAside):
        queue.wait(again)
    assert names(take(queue)) == ["dog.jpg"]


@workers_soon_die
def test_an_image_that_is_released_is_tried_anew(queue: JobQueue) -> None:
    set_aside(queue, "bomb.png")
    assert queue.release("bomb")
    assert queue.set_aside_images() == []
    [job] = submit(queue, "bomb.png")
    queue.finish([(delivery, DOG) for delivery in take(queue)])
    assert queue.wait(job) == DOG
    assert not queue.release("bomb")


@workers_soon_die
def test_who_waits_for_the_same_image_is_told_that_it_is_set_aside(caching_queue: JobQueue) -> None:
    jobs = submit(caching_queue, "bomb.png", "bomb.png")
    end_workers_of(caching_queue)
    for job in jobs:
        with pytest.raises(SetAside):
            caching_queue.wait(job)


@workers_soon_die
def test_each_time_that_a_job_is_taken_over_from_a_dead_worker_is_counted(queue: JobQueue) -> None:
    submit(queue, "bomb.png")
    for worker, redeliveries in (("w1", 0), ("w1", 0), ("w2", 1)):  # lost on its way to w1, who then dies
        take(queue, worker)
        assert queue.figures().redeliveries == redeliveries
    until(lambda: take_now(queue, "w3") or queue.set_aside_images())
    assert queue.figures().redeliveries == 2


@workers_soon_die
def test_a_job_lost_on_its_way_has_ended_nobody(queue: JobQueue) -> None:
    submit(queue, "dog.jpg")
    for worker in ("w1", "w1", "w1", "w2"):  # only w1 has died when w2 takes it
        assert names(take(queue, worker)) == ["dog.jpg"]
    assert names(take(queue, "w2")) == ["dog.jpg"]


@workers_soon_die
def test_of_two_answers_to_one_job_the_second_is_dropped(queue: JobQueue) -> None:
    [job] = submit(queue, "dog.jpg")
    late = take(queue, "w1")
    early = take(queue, "w2")
    queue.finish([(early[0], DOG)])
    queue.finish([(late[0], CAT)])
    assert queue.wait(job) == DOG


def test_waiting_ends_at_the_deadline(queue: JobQueue) -> None:
    [job] = submit(queue, "dog.jpg", timeout_s=0.05)
    with pytest.raises(DeadlinePassed):
        queue.wait(job)


def test_whoever_still_waits_when_the_queue_is_closed_is_told_to_come_back(queue: JobQueue) -> None:
    [job] = submit(queue, "dog.jpg")
    queue.close()
    with pytest.raises(Stopping) as told:
        queue.wait(job)
    assert told.value.retry_after_s


def test_an_expired_job_that_is_taken_has_failed_untried(make_queue: MakeQueue) -> None:
    queue = make_queue(without_worker=True)
    queue.submit_kept(ImageJob.create("late.jpg", 0.01), "r1")  # nobody withdraws it
    until(list, timeout_s=0.1)
    submit(queue, "dog.jpg")
    late, dog = take(queue)
    assert (late.failure(), dog.failure()) == (JobFailure.of(DeadlinePassed()), None)
    assert replace(dog, taken_at=dog.taken_at - 60).failure() == late.failure()


def test_a_full_queue_refuses_a_job_and_says_when_to_come_back(make_queue: MakeQueue) -> None:
    queue = make_queue(max_jobs=2)
    submit(queue, "a", "b")
    queue.heartbeat("w1", 4.0, "m1")
    with pytest.raises(QueueFull) as refused:
        queue.submit(ImageJob.create("c", 60))
    assert refused.value.retry_after_s is not None
    assert 1 <= refused.value.retry_after_s <= 8


def test_a_refusal_says_how_long_the_backlog_takes_at_the_speed_of_the_live_workers(make_queue: MakeQueue) -> None:
    queue = make_queue(max_jobs=6)
    submit(queue, *"abcdef")
    queue.heartbeat("w1", 4.0, "m1")
    queue.heartbeat("w2", 2.0, "m1")
    with pytest.raises(QueueFull) as refused:
        queue.submit(ImageJob.create("g", 100))
    assert refused.value.retry_after_s == queue.retry_after_s() == 8


def test_a_job_that_could_not_be_done_in_time_is_refused_at_once(queue: JobQueue) -> None:
    submit(queue, *"abcdefghi", timeout_s=100)
    queue.heartbeat("w1", 1.0, "m1")
    with pytest.raises(QueueFull) as refused:
        queue.submit(ImageJob.create("j", 10))
    assert refused.value.retry_after_s == 9
    queue.submit(ImageJob.create("k", 20))


def test_a_job_that_nothing_waits_before_is_tried_however_slow_the_workers_are(queue: JobQueue) -> None:
    submit(queue, "a", timeout_s=10, service_time_s=1000)
    assert names(take(queue)) == ["a"]


def test_a_refusal_stands_for_a_moment_and_no_longer_than_the_backlog(make_queue: MakeQueue) -> None:
    queue = make_queue(max_jobs=2)
    assert queue.refusal() is None
    submit(queue, "a", "b")
    assert queue.refusal() is None
    with pytest.raises(QueueFull):
        submit(queue, "c", service_time_s=10)
    standing = queue.refusal()
    assert standing is not None
    assert standing.retry_after_s == 20
    assert until(lambda: queue.refusal() is None, timeout_s=20)


def test_those_for_whom_there_was_no_room_a_moment_ago_are_refused_without_asking(make_queue: MakeQueue) -> None:
    queue = make_queue(max_jobs=3)
    submit(queue, "a", "b", service_time_s=10)  # when b came, there was room for two
    assert queue.refusal(ahead=1) is None
    assert isinstance(queue.refusal(ahead=2), QueueFull)
    assert until(lambda: queue.refusal(ahead=2) is None, timeout_s=20)


def test_there_is_room_for_what_can_be_done_in_time(make_queue: MakeQueue) -> None:
    queue = make_queue()
    submit(queue, "a", "b", service_time_s=3, timeout_s=30)  # most of which may pass while a job waits
    assert queue.refusal(ahead=1) is None
    assert isinstance(queue.refusal(ahead=9), QueueFull)


def test_a_queue_is_full_too_where_the_images_have_too_many_bytes(make_queue: MakeQueue) -> None:
    queue = make_queue(max_bytes=100)
    submit(queue, "a", "b", size_bytes=40)
    with pytest.raises(QueueFull):
        submit(queue, "c", size_bytes=40)
    submit(queue, "d", size_bytes=20)
    queue.finish([(delivery, DOG) for delivery in take(queue, max_jobs=1)])
    submit(queue, "e", size_bytes=40)
    assert names(take(queue)) == ["b", "d", "e"]


def test_an_image_larger_than_the_bound_waits_alone(make_queue: MakeQueue) -> None:
    queue = make_queue(max_bytes=100)
    submit(queue, "huge", size_bytes=1000)
    with pytest.raises(QueueFull):
        submit(queue, "tiny", size_bytes=1)
    assert names(take(queue)) == ["huge"]


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
def test_who_hangs_up_frees_the_place(make_queue: MakeQueue, lane: Lane) -> None:
    queue = make_queue(max_jobs=1, max_bytes=100)
    [job] = submit(queue, "a", size_bytes=100, lane=lane)
    queue.cancel(job)
    with pytest.raises(ClientGone):
        queue.wait(job)
    submit(queue, "b", size_bytes=100, lane=lane)
    assert names(take(queue)) == ["b"]


def test_who_has_waited_too_long_frees_the_place_though_no_worker_comes_by(make_queue: MakeQueue) -> None:
    queue = make_queue(max_jobs=1)
    [job] = submit(queue, "a", timeout_s=0.05)
    with pytest.raises(DeadlinePassed):
        queue.wait(job)
    submit(queue, "b")
    assert names(take(queue)) == ["b"]


def test_who_hangs_up_while_a_worker_has_the_job_does_not_disturb_it(queue: JobQueue) -> None:
    [job] = submit(queue, "a")
    batch = take(queue)
    queue.cancel(job)
    with pytest.raises(ClientGone):
        queue.wait(job)
    queue.finish([(delivery, DOG) for delivery in batch])
    submit(queue, "b")
    assert names(take(queue)) == ["b"]


def test_who_hangs_up_does_not_take_the_others_along_who_wait_for_the_same_image(caching_queue: JobQueue) -> None:
    gone, joined, waiting = submit(caching_queue, "dog.jpg", "dog.jpg", "dog.jpg")
    for job in (joined, gone):
        caching_queue.cancel(job)
        with pytest.raises(ClientGone):
            caching_queue.wait(job)
    caching_queue.finish([(delivery, DOG) for delivery in take(caching_queue)])
    assert caching_queue.wait(waiting) == DOG


def test_an_image_whose_only_caller_has_gone_is_computed_for_the_next_one(caching_queue: JobQueue) -> None:
    [gone] = submit(caching_queue, "dog.jpg")
    caching_queue.cancel(gone)
    with pytest.raises(ClientGone):
        caching_queue.wait(gone)
    [job] = submit(caching_queue, "dog.jpg")
    caching_queue.finish([(delivery, DOG) for delivery in take(caching_queue)])
    assert caching_queue.wait(job) == DOG


def test_a_finished_job_makes_room_for_another(make_queue: MakeQueue) -> None:
    queue = make_queue(max_jobs=1)
    submit(queue, "a")
    queue.finish([(delivery, DOG) for delivery in take(queue)])
    submit(queue, "b")
    assert names(take(queue)) == ["b"]


@workers_soon_die
def test_without_a_live_worker_a_job_is_refused(queue: JobQueue) -> None:
    def is_refused() -> bool:
        try:
            queue.submit(ImageJob.create("dog.jpg", 60))
        except NoWorker:
            return True
        return False

    assert until(is_refused)  # a Redis that has just started does not refuse at once


def test_a_worker_that_retired_does_not_count_as_alive(queue: JobQueue) -> None:
    queue.heartbeat("w1", 0.01, "m1")
    queue.heartbeat("w2", 0.01, "m1")
    queue.retire("w1")
    assert queue.live_workers() == ["w2"]


@workers_soon_die
def test_a_worker_that_fell_silent_does_not_count_as_alive(queue: JobQueue) -> None:
    def lives() -> bool:
        queue.heartbeat("w1", 0.01, "m1")
        return queue.live_workers() == ["w1"]

    assert until(lives)
    assert until(lambda: not queue.live_workers())


def test_an_image_that_was_answered_lately_is_answered_without_a_worker(caching_queue: JobQueue) -> None:
    submit(caching_queue, "dog.jpg")
    caching_queue.finish([(delivery, DOG) for delivery in take(caching_queue)])
    again = ImageJob.create("dog.jpeg", 60)  # the same content under another ending
    caching_queue.submit(again)
    answer = caching_queue.wait(again)
    assert answer == DOG
    assert answer.timings is None


def test_an_image_in_flight_is_computed_once_for_all_who_wait(caching_queue: JobQueue) -> None:
    jobs = submit(caching_queue, "dog.jpg", "dog.jpg", "cat.jpg", "dog.jpg")
    batch = take(caching_queue)
    assert names(batch) == ["dog.jpg", "cat.jpg"]
    caching_queue.finish([(batch[0], DOG), (batch[1], CAT)])
    assert [caching_queue.wait(job) for job in jobs] == [DOG, DOG, CAT, DOG]


def test_who_submits_is_told_what_became_of_the_job(caching_queue: JobQueue) -> None:
    submit(caching_queue, "dog.jpg")
    caching_queue.heartbeat("w1", 0.01, "m1")
    other, same, later = (ImageJob.create(name, 60) for name in ("cat.jpg", "dog.jpg", "dog.jpg"))
    assert caching_queue.submit(other) == "accepted"
    assert caching_queue.submit(same) == "joined"
    finish_all(caching_queue)
    caching_queue.heartbeat("w1", 0.01, "m1")
    assert caching_queue.submit(later) == "cached"


def test_a_failure_reaches_all_who_wait_and_is_not_cached(caching_queue: JobQueue) -> None:
    jobs = submit(caching_queue, "dog.jpg", "dog.jpg")
    failure = JobFailure.of(NotAnImage())
    caching_queue.finish([(delivery, failure) for delivery in take(caching_queue)])
    for job in jobs:
        with pytest.raises(NotAnImage):
            caching_queue.wait(job)
    submit(caching_queue, "dog.jpg")
    assert names(take(caching_queue)) == ["dog.jpg"]


def test_who_waits_longer_for_the_same_image_is_not_sent_away_with_the_first(caching_queue: JobQueue) -> None:
    [impatient] = submit(caching_queue, "dog.jpg", timeout_s=0.05)
    patient = submit(caching_queue, "dog.jpg", "dog.jpg")
    with pytest.raises(DeadlinePassed):
        caching_queue.wait(impatient)
    caching_queue.finish([(delivery, DOG) for delivery in take(caching_queue)])
    assert [caching_queue.wait(job) for job in patient] == [DOG, DOG]


@workers_soon_die
def test_those_who_wait_for_the_same_image_are_answered_though_its_worker_died(caching_queue: JobQueue) -> None:
    jobs = submit(caching_queue, "dog.jpg", "dog.jpg")
    take(caching_queue, "w1")
    caching_queue.finish([(delivery, DOG) for delivery in take(caching_queue, "w2")])
    assert [caching_queue.wait(job) for job in jobs] == [DOG, DOG]


def test_a_forgotten_image_is_computed_anew(caching_queue: JobQueue) -> None:
    submit(caching_queue, "dog.jpg")
    caching_queue.finish([(delivery, DOG) for delivery in take(caching_queue)])
    caching_queue.forget("dog.jpg")
    submit(caching_queue, "dog.jpg")
    assert names(take(caching_queue)) == ["dog.jpg"]


def test_another_model_does_not_answer_with_the_first_ones_predictions(caching_queue: JobQueue) -> None:
    submit(caching_queue, "dog.jpg")
    caching_queue.finish([(delivery, DOG) for delivery in take(caching_queue)])
    caching_queue.heartbeat("w2", 0.01, "m2")
    caching_queue.submit(ImageJob.create("dog.jpg", 60))
    assert names(take(caching_queue)) == ["dog.jpg"]


def test_without_a_cache_the_same_image_is_computed_each_time(queue: JobQueue) -> None:
    submit(queue, "dog.jpg", "dog.jpg")
    assert names(take(queue)) == ["dog.jpg", "dog.jpg"]


def test_the_labels_are_those_of_the_model_that_is_served(queue: JobQueue) -> None:
    queue.publish(ModelInfo("m1", labels=("Eskimo_dog", "Schäferhund")))
    queue.publish(ModelInfo("m2", labels=("tabby",)))
    assert list(queue.labels()) == []
    for model, labels in (("m1", ["Eskimo_dog", "Schäferhund"]), ("m2", ["tabby"])):
        queue.heartbeat("w1", 0.01, model)
        assert until(lambda: list(queue.labels()) == labels)  # noqa: B023 - called at once


def test_the_labels_of_a_model_that_has_published_none_are_none(queue: JobQueue) -> None:
    queue.heartbeat("w1", 0.01, "m1")
    assert list(queue.labels()) == []
    queue.publish(ModelInfo("m1", labels=("tabby",)))
    assert until(lambda: list(queue.labels()) == ["tabby"])


def test_a_model_is_known_by_its_id_also_when_another_is_served(queue: JobQueue) -> None:
    old, new = ModelInfo("m1", "pets", "1", "f32", 224, 192, "crop", ("cat",)), ModelInfo("m2", "pets", "2")
    queue.publish(old)
    queue.publish(new)
    queue.heartbeat("w1", 0.01, "m2")
    assert [queue.model(), queue.model("m1"), queue.model("m2")] == [new, old, new]
    assert queue.model("m3") is None


def test_an_empty_queue_that_no_worker_has_come_to_has_figures(queue: JobQueue) -> None:
    assert queue.figures() == QueueFigures()


def test_the_figures_tell_jobs_that_wait_from_jobs_in_work(queue: JobQueue) -> None:
    submit(queue, "a.jpg", "b.jpg", "c.jpg", size_bytes=10)
    [delivery] = take(queue, max_jobs=1)
    assert until(lambda: queue.figures().oldest_job_s > 0)
    figures = queue.figures()
    assert (figures.waiting_jobs, figures.held_jobs, figures.queued_bytes) == (2, 1, 30)
    queue.finish([(delivery, DOG)])
    assert (queue.figures().waiting_jobs, queue.figures().held_jobs, queue.figures().queued_bytes) == (2, 0, 20)


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
def test_the_images_of_jobs_are_known_while_these_wait_or_are_in_work(queue: JobQueue, lane: Lane) -> None:
    assert queue.queued_images() == set()
    submit(queue, "dog.jpg", "cat.jpg", lane=lane)
    held = take(queue, max_jobs=1)
    assert queue.queued_images() == {"dog", "cat"}
    queue.finish([(delivery, DOG) for delivery in held])
    assert queue.queued_images() == {"cat"}


def test_the_figures_have_what_each_worker_has_told_of_itself(queue: JobQueue) -> None:
    told = WorkerReport("m1", 12.5, 100, 40, 7, 1, {1: 3, 2: 2}, 0.5, 0.25)
    for worker, report in (("w1", told), ("w2", WorkerReport("m1", limit_images_per_s=60, batches={1: 1}))):
        queue.heartbeat(worker, 0.01, "m1")
        queue.report(worker, report)
    queue.heartbeat("w3", 0.02, "m1")
    figures = queue.figures()
    first, second, third = figures.workers
    assert (first.name, first.alive, first.service_time_s, first.report) == ("w1", True, 0.01, told)
    assert (third.name, third.service_time_s, third.report) == ("w3", 0.02, None)
    assert 0 <= second.silent_s < 60
    assert (figures.live_workers, figures.batches) == (3, {1: 4, 2: 2})
    assert (figures.images_per_s, figures.limit_images_per_s, figures.efficiency) == (40, 160, 0.25)


@workers_soon_die
def test_a_worker_that_is_not_heard_of_counts_no_more(queue: JobQueue) -> None:
    queue.heartbeat("w1", 0.01, "m1")
    queue.report("w1", WorkerReport(images_per_s=40, limit_images_per_s=80))
    assert until(lambda: not queue.figures().live_workers)
    figures = queue.figures()
    assert (figures.images_per_s, figures.efficiency) == (0, 0)
    [dead] = figures.workers
    assert not dead.alive


@workers_soon_die
def test_a_job_that_is_delivered_again_says_how_many_workers_died_with_it(queue: JobQueue) -> None:
    submit(queue, "a.jpg")
    [first] = take(queue, "w1")
    [second] = take(queue, "w2")
    assert (first.deaths, second.deaths) == (0, 1)


def test_without_a_worker_a_job_is_taken_where_that_is_wanted_and_waits_for_one(make_queue: MakeQueue) -> None:
    queue = make_queue(without_worker=True)
    job = ImageJob.create("a.jpg", 60)
    queue.submit(job)
    queue.finish([(delivery, DOG) for delivery in take(queue)])
    assert queue.wait(job) == DOG


def test_without_a_worker_a_queue_that_takes_jobs_is_bounded_all_the_same(make_queue: MakeQueue) -> None:
    queue = make_queue(max_jobs=1, without_worker=True)
    queue.submit(ImageJob.create("a.jpg", 60))
    with pytest.raises(QueueFull):
        queue.submit(ImageJob.create("b.jpg", 60))
