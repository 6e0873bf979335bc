"""Submits images to the queue for the views, and waits for their predictions."""

from collections.abc import Callable, Sequence

from api.http.connection import Connection
from jobs import job_trace
from jobs.queue.interface import Admission, JobQueue
from jobs.schema import ImageJob, Prediction
from runtime import logs, tracing
from runtime.errors import ClientGone, ServiceError


def model_predict(queue: JobQueue, job: ImageJob, client: Connection) -> Prediction:
    """Classify a stored image. Raises the `ServiceError` that prevented it, at the latest after the job's timeout.

    If the client disconnects, cancels the job and raises `ClientGone`.
    """
    logs.bind(job_id=job.id, image=job.image_name)
    submit(queue.submit, job)
    client.when_closed(lambda: queue.cancel(job))
    prediction = queue.wait(job)
    logs.bind(label=prediction.label, score=round(prediction.score, 4))
    return prediction


def submit(submit_to: Callable[[ImageJob], Admission], job: ImageJob) -> None:
    """Submit a job in a span that its worker continues, and count on the request's span how it was admitted."""
    with tracing.span("submit job", {"messaging.message.id": job.id}, kind="producer"):
        admission = submit_to(job_trace.carrying(job))
    tracing.current().count(f"mlapi.jobs.{admission}")


def model_predict_all(
    queue: JobQueue, submitted: Sequence[ImageJob], client: Connection
) -> dict[str, Prediction | ServiceError]:
    """Return each job's prediction or error, by job id.

    If the client disconnects, cancels the jobs and raises `ClientGone`.
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
