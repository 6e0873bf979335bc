"""The requests of this process that wait for an outcome, by job id."""

import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, replace

from jobs.schema import ImageJob, JobFailure, Outcome, Prediction
from runtime import waiting
from runtime.errors import DeadlinePassed, Stopping


@dataclass(frozen=True, slots=True)
class _Waiter:
    job: ImageJob
    future: Future[Outcome]
    deadline: float  # on the monotonic clock


class Waiters:
    """A table of waiting requests. Thread-safe."""

    def __init__(self) -> None:
        self._by_job_id: dict[str, _Waiter] = {}

    def add(self, job: ImageJob) -> None:
        """Register a request for `job`'s outcome. Call it before the job is sent, or the answer could come first."""
        self._by_job_id[job.id] = _Waiter(job, Future(), time.monotonic() + job.timeout_s)

    def remove(self, job: ImageJob) -> None:
        """Remove a job's request."""
        self._by_job_id.pop(job.id, None)

    def resolve(self, job_id: str, outcome: Outcome) -> None:
        """Wake the request that waits for this job; without one, the outcome is dropped."""
        waiter = self._by_job_id.get(job_id)
        if waiter and not waiter.future.done():
            waiter.future.set_result(outcome)

    def close(self) -> None:
        """Wake all waiting requests because the service stops."""
        for job in self.waiting():
            self.resolve(job.id, JobFailure.of(Stopping()))

    def waiting(self) -> list[ImageJob]:
        """Return the jobs that are still waited for, oldest first, each with its remaining seconds as `timeout_s`."""
        now = time.monotonic()
        waiters = [waiter for waiter in list(self._by_job_id.values()) if not waiter.future.done()]
        return [replace(waiter.job, timeout_s=waiter.deadline - now) for waiter in waiters if waiter.deadline > now]

    def wait(self, job: ImageJob) -> Prediction:
        """Return the prediction for `job`, or raise its failure, or `DeadlinePassed`."""
        waiter = self._by_job_id[job.id]
        try:
            outcome = waiting.wait(waiter.future, max(0.0, waiter.deadline - time.monotonic()))
        except FutureTimeoutError as err:
            raise DeadlinePassed(
                f"No answer within {job.timeout_s:g} s. Try again when the service is less busy."
            ) from err
        finally:
            self.remove(job)
        if isinstance(outcome, JobFailure):
            raise outcome.error()
        return outcome
