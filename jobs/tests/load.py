"""Callers and workers that keep running while another Redis takes over."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count, pairwise

from jobs.queue.interface import Delivery
from jobs.redis.queue import RedisJobQueue
from jobs.schema import ImageJob, Prediction
from runtime.errors import NoWorker, QueueUnavailable
from testing.queues import until

# Generous, for a busy machine.
MOST_S = 60


def prediction_for(job: ImageJob) -> Prediction:
    """Return an answer that is right for this job alone."""
    return Prediction(job.image_name, 1, 0.5, "m1")


@contextmanager
def worker_on(url: str, name: str = "w1") -> Iterator[None]:
    """Answer jobs as a worker does, through a separate client, retrying while Redis is away."""
    queue, stopped = RedisJobQueue(url, max_jobs=1), threading.Event()

    def work() -> None:
        while not stopped.is_set():
            with suppress(QueueUnavailable):
                queue.heartbeat(name, 0.01, "m1")
                finish(queue.take_batch(name, 4, 0.05))

    def finish(batch: list[Delivery]) -> None:
        while not stopped.is_set():
            with suppress(QueueUnavailable):
                queue.finish([(delivery, prediction_for(delivery.job)) for delivery in batch])
                return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        queue.close()


def ask(queue: RedisJobQueue, name: str) -> bool:
    """Have an image classified, retrying while that is refused; return whether the answer is its own."""
    job = ImageJob.create(name, MOST_S)
    return until(lambda: _is_accepted(queue, job)) and queue.wait(job) == prediction_for(job)


def _is_accepted(queue: RedisJobQueue, job: ImageJob) -> bool:
    """Submit a job; return False if it is refused."""
    try:
        queue.submit(job)
    except (QueueUnavailable, NoWorker):
        return False
    return True


def all_are_right_through(
    what: str, change: Callable[[], None], url: str, queue: RedisJobQueue, figures: list[str]
) -> bool:
    """Send images as eight callers before, during and after a change; return whether each answer is its own."""
    answers: list[tuple[float, bool]] = []
    changed, answered_before = threading.Event(), 0

    def caller(number: int) -> None:
        for image in count():
            is_right = ask(queue, f"{number}-{image}.jpg")
            answers.append((time.monotonic(), is_right))
            if changed.is_set() and len(answers) > answered_before + 100:
                return

    with worker_on(url), worker_on(url, "w2"), ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(caller, number) for number in range(8)]
        until(lambda: len(answers) > 50)
        try:
            change()
        finally:
            answered_before = len(answers)
            changed.set()
        for call in calls:
            call.result()
    pause_s = max(later - earlier for (earlier, _), (later, _) in pairwise(answers))
    right = sum(is_right for _, is_right in answers)
    figures.append(f"{what}, queue: {right} of {len(answers)} jobs right; none for {pause_s:.1f} s")
    return right == len(answers)
