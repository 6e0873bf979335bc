"""What a job queue does, whoever keeps it: the API submits and waits, workers take and finish."""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from jobs.queue.figures import Examined, QueueFigures, WorkerReport
from jobs.schema import ImageJob, JobFailure, Lane, ModelInfo, Outcome, Prediction, SetAsideImage
from jobs.versions.rules import DEFAULT_POOL, Route, Versions
from runtime.errors import DeadlinePassed, QueueFull

# A worker that has not been heard of for this long is dead, and what it held is given to another. Workers are heard of
# from a thread of their own, every quarter of this time, however long their network takes.
WORKER_TTL_S = 1.5

# A job whose worker died is tried once more, alone. If that worker dies too, the image is the likely cause.
MAX_DEATHS = 2
# Images set aside that are kept; the oldest go first.
MAX_SET_ASIDE = 1000

# Bulk jobs take at most this share of the places, and of the bytes, that the interactive ones leave, so that who waits
# finds one. So do, of what bulk leaves, interactive jobs whose outcomes are kept: no connection bounds their number.
MAX_BULK_SHARE = 0.5
# So many jobs whose outcomes are kept may wait for the outcome of the same one.
MAX_JOINED = 100
# While bulk jobs wait, one of so many jobs that are taken is one of them.
BULK_EVERY = 8
# While interactive jobs come, bulk jobs are taken one by one, so that the next one waits for as little as may be; this
# long after the last one, in batches again.
LATELY_S = 10.0

# Copies for comparison that wait for a version or are in work, at most; there are no more until it is done with one.
MAX_COPIES = 8

# A job is refused where the backlog takes longer than this share of its `timeout_s`. Less than all of it, since that is
# reckoned with averages: images differ, and processors have other work, too.
MAX_WAIT_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Delivery:
    """A job in a worker's hands, how long it waited to get there, and what the queue needs to finish it.

    `deaths` is how many workers have died with it before. It was in the streams of `pool` (see jobs/versions/), which
    is that of the worker unless this stands in for others, which may not do for the job: then there is a `refusal`.
    """

    job: ImageJob
    receipt: str
    reply_to: str
    waited_ms: float
    deaths: int = 0
    pool: str = DEFAULT_POOL
    refusal: JobFailure | None = None
    taken_at: float = field(default_factory=time.monotonic)

    @property
    def deadline(self) -> float:
        """When the answer is of no use any more, on this process's monotonic clock."""
        return self.taken_at + self.job.timeout_s - self.waited_ms / 1000

    def failure(self) -> JobFailure | None:
        """Return what the job is to be answered with untried, if it is: `DeadlinePassed` or its refusal."""
        return JobFailure.of(DeadlinePassed()) if time.monotonic() >= self.deadline else self.refusal


# What became of a job at once: it waits for a worker; it waits for the outcome of another job for the same image; it
# has that of an earlier one; it has failed, since its image is set aside.
Admission = Literal["accepted", "joined", "cached", "set-aside"]


class JobQueue(Protocol):
    """Carries image jobs to workers and their outcomes back.

    An image that was answered lately is answered from a cache, and one that is being computed is not computed again:
    the later job gets the earlier one's outcome, unless they are in different lanes: then the image is computed for
    each, so that an interactive job never waits behind bulk ones. Both are off where `cache_ttl_s` is 0.

    Interactive jobs go before bulk jobs. While these wait, one of `BULK_EVERY` jobs that are taken is one of them.

    A job is finished once: of two workers that hold it, the first to finish answers. What a dead worker held is
    delivered again, one job at a time. A job that has ended `MAX_DEATHS` workers is answered with `SetAside`, and so is
    every later one for the same image, until that is released.

    There may be several versions of several models, each with workers of its own (see jobs/versions/). A job is for
    the version that it names or, by its route, for one of those that serve. Where no worker of that is alive any more,
    those of the version that serves then answer what waits, but for jobs that name the version: these get `NoWorker`.
    """

    def submit(self, job: ImageJob) -> Admission:
        """Add a job, and tell what became of it at once.

        Raises `QueueFull`, `NoWorker`, `NoSuchModel` or `QueueUnavailable`, and then the job is not in the queue.

        The queue is full where as many jobs or bytes of images wait or are in work as may, for a bulk job
        `MAX_BULK_SHARE` of that, or so many that this one could hardly be done within its `timeout_s`.
        """

    def submit_kept(self, job: ImageJob, result_id: str) -> Admission:
        """Add a job whose outcome is added to a result (see jobs/results.py), whatever becomes of who submits it.

        Raises as `submit` does. The queue is full for such jobs, too, where `MAX_BULK_SHARE` of it is taken, or
        where `MAX_JOINED` jobs have joined the one for the same image.
        """

    def refusal(self, ahead: int = 0) -> QueueFull | None:
        """Return what `submit` would refuse an interactive job with that comes after those who are `ahead` of it.

        Whoever has many clients learns from this at no cost what a `submit` of a moment ago has found: that there was
        no room, or for how many. None where that is not known any more.
        """

    def retry_after_s(self, lane: Lane = "interactive") -> int:
        """Return in how many seconds what a job of this lane waited for at the last `submit` is done, at least one."""

    def wait(self, job: ImageJob) -> Prediction:
        """Return the prediction of a submitted job, or raise the `ServiceError` that its worker reported.

        Raises `DeadlinePassed` when `job.timeout_s` is over since the job was submitted, `ClientGone` when it was
        cancelled. The job then leaves the queue, unless a worker has it or another waits for the same image.
        """

    def cancel(self, job: ImageJob) -> None:
        """Have the `wait` of a submitted job end, from any thread, without waiting for anything."""

    def live_workers(self, model: str | None = None) -> list[str]:
        """Return the names of the workers that were heard of lately: of all, or of those that answer for a model.

        `model` is a model's or a version's name, or "" for jobs that name none. Raises `QueueUnavailable`.
        """

    def versions(self) -> Versions:
        """Return which versions of which models there are, and which of them serve. Raises `QueueUnavailable`."""

    def change_route(self, model: str, change: Callable[[Versions], Route]) -> Route:
        """Have a model's versions serve as `change` says, which is called with what there is; return that.

        Whatever it raises is raised. Jobs that are submitted half a second later are for the version that then serves,
        and earlier ones are answered by the one before. Raises `QueueUnavailable`.
        """

    def figures(self) -> QueueFigures:
        """Return what there is to know of queue and workers now, for operators. Raises `QueueUnavailable`."""

    def labels(self) -> Sequence[str]:
        """Return the labels of the model that serves, or did half a second ago, in the order of its classes.

        There are none where no worker has published any. Raises `QueueUnavailable`.
        """

    def model(self, model_id: str | None = None) -> ModelInfo | None:
        """Return what is known of the model that serves jobs that name none, or of the one with this id.

        That is nothing where no worker has published it. The one that serves is the one that did half a second ago.
        Raises `QueueUnavailable`.
        """

    def take_batch(self, worker: str, max_jobs: int, wait_s: float, max_bulk: int = sys.maxsize) -> list[Delivery]:
        """Return up to `max_jobs` jobs, oldest first; wait up to `wait_s` for the first, for the others not at all.

        Interactive jobs come first. Only where none waits, up to `max_bulk` bulk jobs are taken, or one where
        interactive jobs have come within `LATELY_S`; and one beside the others when it is its turn.

        A worker gets its share of what waits, so that none hoards while others idle. It calls this only when it holds
        no job: what is still in its name was lost on the way to it, and is delivered again. Among what it gets may be
        jobs that it is to answer untried, by their `failure`.
        """

    def finish(self, outcomes: Iterable[tuple[Delivery, Outcome]]) -> None:
        """Answer jobs and remove them, each in one step. An answer to a job that is already finished is dropped."""

    def queued_images(self) -> set[str]:
        """Return the hashes of the images whose jobs wait or are in work. Raises `QueueUnavailable`."""

    def forget(self, image_name: str) -> None:
        """Drop an image's predictions from the cache, by whichever version there was half a second ago."""

    def set_aside_images(self) -> list[SetAsideImage]:
        """Return the images that are set aside, oldest first. Raises `QueueUnavailable`."""

    def release(self, image_hash: str) -> bool:
        """Let an image be tried again when it is sent; tell whether it was set aside. Raises `QueueUnavailable`."""

    def heartbeat(self, worker: str, service_time_s: float, model: str) -> None:
        """Say that a worker is alive, how many seconds it takes for one image on average, and with which model."""

    def report(self, worker: str, report: WorkerReport) -> None:
        """Tell operators what a worker does; to be repeated, since a queue may forget. Raises `QueueUnavailable`."""

    def publish(self, model: ModelInfo) -> None:
        """Say what there is to know of a model, unless that is known; to be repeated, since a queue may forget.

        Raises `QueueUnavailable`.
        """

    def note_examined(self, model_id: str, examined: Examined) -> None:
        """Say how many corrected images a model gets right. Raises `QueueUnavailable`."""

    def retire(self, worker: str) -> None:
        """Say that a worker takes no more jobs."""

    def close(self) -> None:
        """End threads and connections; whoever still waits gets `Stopping`."""
