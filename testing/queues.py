"""Test helpers for any implementation of the queue."""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import pytest

from jobs.queue.interface import Delivery, JobQueue
from jobs.schema import ClassScore, ImageJob, Lane, Prediction, Timings
from runtime.errors import NoWorker

TOP = (ClassScore("Eskimo_dog", 248, 0.64), ClassScore("malamute", 249, 0.2))
DOG = Prediction("Eskimo_dog", 248, 0.64, "m1", Timings(1, 2, 3, 4), TOP)
CAT = Prediction("tabby", 281, 0.91, "m1")
T = TypeVar("T")
MakeQueue = Callable[..., JobQueue]

# For tests that wait for a worker's death, and so tolerate one that dies early.
workers_soon_die = pytest.mark.parametrize("worker_ttl_s", [0.4])


def submit(
    queue: JobQueue,
    *image_names: str,
    timeout_s: float = 60,
    size_bytes: int = 0,
    service_time_s: float = 0.01,
    lane: Lane = "interactive",
) -> list[ImageJob]:
    """Submit a job for each image, as if a worker were alive."""
    jobs = [ImageJob.create(name, timeout_s, size_bytes=size_bytes, lane=lane) for name in image_names]
    if not all(until(partial(is_accepted, queue, job, service_time_s)) for job in jobs):
        pytest.fail("the worker that was just heard of never counted as alive")
    queue.retire("someone")
    return jobs


def is_accepted(queue: JobQueue, job: ImageJob, service_time_s: float) -> bool:
    """Submit a job; return False if this took so long that the worker counts as dead again."""
    queue.heartbeat("someone", service_time_s, "m1")
    try:
        queue.submit(job)
    except NoWorker:
        return False
    return True


def take(queue: JobQueue, worker: str = "w1", max_jobs: int = 10) -> list[Delivery]:
    """Return the jobs that the queue gives a live worker within half a minute."""
    return until(lambda: take_now(queue, worker, max_jobs))


def take_now(queue: JobQueue, worker: str, max_jobs: int = 10, max_bulk: int = sys.maxsize) -> list[Delivery]:
    """Return the jobs that the queue gives a live worker now."""
    queue.heartbeat(worker, 0.01, "m1")
    return queue.take_batch(worker, max_jobs, 0.05, max_bulk)


def until(step: Callable[[], T], timeout_s: float = 30) -> T:
    """Return `step()`'s result as soon as it is true, or the one at the deadline."""
    deadline = time.monotonic() + timeout_s
    while not (found := step()) and time.monotonic() < deadline:
        pass
    return found


def names(batch: list[Delivery]) -> list[str]:
    """Return the names of the jobs' images."""
    return [delivery.job.image_name for delivery in batch]


def finish_all(queue: JobQueue) -> None:
    """Answer all jobs in the queue."""
    while batch := take_now(queue, "w1"):
        queue.finish([(delivery, DOG) for delivery in batch])
