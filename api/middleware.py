"""Between the views and the queue: images in, their predictions out."""

from collections.abc import Callable, Sequence

from api.http.connection import Connection
from jobs import job_trace
from jobs.queue.interface import Admission, JobQueue
from jobs.schema import ImageJob, Prediction
from runtime import logs, tracing
from runtime.errors import ClientGone, ServiceError


def model_predict(queue: JobQueue, job: ImageJob, client: Connection) -> Prediction:
    """Have a stored image classified. Raises the `ServiceError` that prevented it, at the latest after its timeout.

    Where the client hangs up, that is `ClientGone`, and nothing is computed for it.
    """
    logs.bind(job_id=job.id, image=job.image_name)
    submit(queue.submit, job)
    client.when_closed(lambda: queue.cancel(job))
    prediction = queue.wait(job)
    logs.bind(label=prediction.label, score=round(prediction.score, 4))
    return prediction


def submit(submit_to: Callable[[ImageJob], Admission], job: ImageJob) -> None:
    """Submit a job, in a span that its worker goes on with, and note on the request's how it was taken."""
    with tracing.span("submit job", {"messaging.message.id": job.id}, kind="producer"):
        admission = submit_to(job_trace.carrying(job))
    tracing.current().count(f"mlapi.jobs.{admission}")


def model_predict_all(
    queue: JobQueue, submitted: Sequence[ImageJob], client: Connection
) -> dict[str, Prediction | ServiceError]:
    """Return by job id what becomes of each of the jobs.

    Raises `ClientGone` where the client hangs up, and nothing is computed for it.
    """
    logs.bind(job_ids=[job.id for job in submitted])
    client.when_closed(lambda: _cancel(queue, submitted))
    outcomes = {job.id: _wait(queue, job) for job in submitted}
    if gone := next((error for error in outcomes.values() if isinstance(error, ClientGone)), None):
        raise gone
    return outcomes


def _cancel(queue: JobQueue, jobs: Sequence[ImageJob]) -> None:
    for job in jobs:
        queue.cancel(job)


def _wait(queue: JobQueue, job: ImageJob) -> Prediction | ServiceError:
    try:
        return queue.wait(job)
    except ServiceError as err:
        return err
