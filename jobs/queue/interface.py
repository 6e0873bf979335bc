"""The interface of a job queue: the API submits and waits, workers take and finish."""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from jobs.queue.figures import Examined, QueueFigures, WorkerReport
from jobs.schema import ImageJob, JobFailure, Lane, ModelInfo, Outcome, Prediction, SetAsideImage
from jobs.versions.rules import DEFAULT_POOL, Route, Versions
from runtime.errors import DeadlinePassed, QueueFull

# A worker without a heartbeat for this long is dead, and its jobs are given to another. Heartbeats are sent by a thread
# of their own, every quarter of this time, however long the network takes.
WORKER_TTL_S = 1.5

# A job whose worker died is retried once, alone. If that worker dies too, the image is the likely cause.
MAX_DEATHS = 2
# Quarantined images that are kept; the oldest are dropped first.
MAX_SET_ASIDE = 1000

# Bulk jobs take at most this share of the places, and of the bytes, that the interactive ones leave, so that a client
# who waits finds room. The same limit holds, of the places that bulk jobs leave, for interactive jobs whose outcomes
# are kept: no connection bounds their number.
MAX_BULK_SHARE = 0.5
# At most this many jobs whose outcomes are kept may wait for the outcome of the same job.
MAX_JOINED = 100
# While bulk jobs wait, one in this many jobs taken is a bulk job.
BULK_EVERY = 8
# While interactive jobs arrive, bulk jobs are taken one by one, so that the next interactive job waits as briefly as
# possible. This long after the last interactive job, they are taken in batches again.
LATELY_S = 10.0

# The maximum number of copies for comparison that wait for a version or are being processed; further ones are dropped.
MAX_COPIES = 8

# A job is refused if the backlog takes longer than this share of its `timeout_s`. It is less than 1 because the
# estimate uses averages: images differ, and processors have other work, too.
MAX_WAIT_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Delivery:
    """A job that a worker holds, how long it waited, and what the queue needs to finish it.

    `deaths` is the number of workers that died with it before. `pool` is the pool whose streams it came from (see
    jobs/versions/): the worker's own, unless the worker stands in for another version. If it may not do so for this
    job, there is a `refusal`.
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
        """When the answer is no longer of use, on this process's monotonic clock."""
        return self.taken_at + self.job.timeout_s - self.waited_ms / 1000

    def failure(self) -> JobFailure | None:
        """Return the failure to answer the job with without trying it, if any: `DeadlinePassed` or its refusal."""
        return JobFailure.of(DeadlinePassed()) if time.monotonic() >= self.deadline else self.refusal


# The immediate result of a submit: the job waits for a worker; it waits for the outcome of another job for the same
# image; it was answered from the cache; it has failed, since its image is quarantined.
Admission = Literal["accepted", "joined", "cached", "set-aside"]


class JobQueue(Protocol):
    """Carries image jobs to workers and their outcomes back.

    An image that was answered recently is answered from a cache, and one that is being processed is not processed
    again: the later job gets the earlier one's outcome. This holds within a lane only, so that an interactive job never
    waits behind bulk jobs. Both are off if `cache_ttl_s` is 0.

    Interactive jobs go before bulk jobs. While bulk jobs wait, one of `BULK_EVERY` jobs taken is one of them.

    A job is finished once: if two workers hold it, the first to finish answers. The jobs of a dead worker are delivered
    again, one at a time. A job that has ended `MAX_DEATHS` workers is answered with `SetAside`, and so is every later
    job for the same image, until the image is released.

    There may be several versions of several models, each with its own workers (see jobs/versions/). A job is for the
    version that it names or, by its route, for one of those that serve. If that version has no live worker, the workers
    of the version that serves then answer its waiting jobs, except jobs that name the version: these get `NoWorker`.
    """

    def submit(self, job: ImageJob) -> Admission:
        """Add a job, and return the immediate result.

        Raises `QueueFull`, `NoWorker`, `NoSuchModel` or `QueueUnavailable`; the job is then not in the queue.

        The queue is full if the jobs that wait or are being processed reach its limit of jobs or of image bytes (for a
        bulk job `MAX_BULK_SHARE` of it), or if the job could hardly be done within its `timeout_s`.
        """

    def submit_kept(self, job: ImageJob, result_id: str) -> Admission:
        """Add a job whose outcome is added to a result (see jobs/results.py), even if its submitter is gone.

        Raises as `submit` does. For such jobs the queue is also full if `MAX_BULK_SHARE` of it is taken, or if
        `MAX_JOINED` jobs have joined the one for the same image.
        """

    def refusal(self, ahead: int = 0) -> QueueFull | None:
        """Return the error with which `submit` would refuse an interactive job behind `ahead` others, or None.

        It costs no request to the queue: it uses the room that a recent `submit` reported. It is None if that is out of
        date.
        """

    def retry_after_s(self, lane: Lane = "interactive") -> int:
        """Return the seconds until the backlog that the last `submit` saw in this lane is done, at least one."""

    def wait(self, job: ImageJob) -> Prediction:
        """Return the prediction of a submitted job, or raise the `ServiceError` that its worker reported.

        Raises `DeadlinePassed` when `job.timeout_s` has passed since the job was submitted, `ClientGone` when it was
        cancelled. The job then leaves the queue, unless a worker has it or another job waits for the same image.
        """

    def cancel(self, job: ImageJob) -> None:
        """End the `wait` of a submitted job. Callable from any thread; does not block."""

    def live_workers(self, model: str | None = None) -> list[str]:
        """Return the names of the live workers: of all, or of those that answer for a model.

        `model` is a model's or a version's name, or "" for jobs that name none. Raises `QueueUnavailable`.
        """

    def versions(self) -> Versions:
        """Return the known versions of all models, and which of them serve. Raises `QueueUnavailable`."""

    def change_route(self, model: str, change: Callable[[Versions], Route]) -> Route:
        """Change which of a model's versions serve: call `change` with the present versions, and return the new route.

        Exceptions of `change` are passed on. Jobs submitted half a second later or more go to the version that then
        serves; earlier ones are answered by the previous one. Raises `QueueUnavailable`.
        """

    def figures(self) -> QueueFigures:
        """Return the present figures of queue and workers, for operators. Raises `QueueUnavailable`."""

    def labels(self) -> Sequence[str]:
        """Return the labels of the model that serves, or did half a second ago, in the order of its classes.

        They are empty if no worker has published any. Raises `QueueUnavailable`.
        """

    def model(self, model_id: str | None = None) -> ModelInfo | None:
        """Return the information on the model with this id, or on the one that serves jobs that name none.

        It is None if no worker has published it. The one that serves is the one that did half a second ago. Raises
        `QueueUnavailable`.
        """

    def take_batch(self, worker: str, max_jobs: int, wait_s: float, max_bulk: int = sys.maxsize) -> list[Delivery]:
        """Return up to `max_jobs` jobs, oldest first; wait up to `wait_s` for the first, not at all for the others.

        Interactive jobs come first. Only if none waits, up to `max_bulk` bulk jobs are taken, or one if interactive
        jobs have come within `LATELY_S`; and one beside the others when it is its turn.

        A worker gets its share of the waiting jobs, so that none hoards while others idle. It calls this only when it
        holds no job: a job still in its name was lost on the way to it, and is delivered again. Jobs that have a
        `failure` are to be answered with it, without trying them.
        """

    def finish(self, outcomes: Iterable[tuple[Delivery, Outcome]]) -> None:
        """Answer jobs and remove them, each in one step. An answer to an already finished job is dropped."""

    def queued_images(self) -> set[str]:
        """Return the hashes of the images of waiting and processing jobs. Raises `QueueUnavailable`."""

    def forget(self, image_name: str) -> None:
        """Drop an image's predictions from the cache, for all versions that existed half a second ago."""

    def set_aside_images(self) -> list[SetAsideImage]:
        """Return the quarantined images, oldest first. Raises `QueueUnavailable`."""

    def release(self, image_hash: str) -> bool:
        """Release an image from quarantine; return whether it was quarantined. Raises `QueueUnavailable`."""

    def heartbeat(self, worker: str, service_time_s: float, model: str) -> None:
        """Report that a worker is alive, its average seconds per image, and its model."""

    def report(self, worker: str, report: WorkerReport) -> None:
        """Publish a worker's report for operators. Repeat it, since a queue may forget. Raises `QueueUnavailable`."""

    def publish(self, model: ModelInfo) -> None:
        """Publish the information on a model, unless it is known. Repeat it, since a queue may forget.

        Raises `QueueUnavailable`.
        """

    def note_examined(self, model_id: str, examined: Examined) -> None:
        """Store how many corrected images a model gets right. Raises `QueueUnavailable`."""

    def retire(self, worker: str) -> None:
        """Remove a worker that takes no more jobs."""

    def close(self) -> None:
        """End threads and connections; requests that still wait get `Stopping`."""
