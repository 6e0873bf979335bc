"""Between the views and the queue: images in, their predictions out."""

from collections.abc import Sequence

from api.connection import Connection
from jobs import logs
from jobs.errors import ClientGone, ServiceError
from jobs.queue import JobQueue
from jobs.schema import ImageJob, Prediction


def model_predict(
    queue: JobQueue, image_name: str, timeout_s: float, request_id: str, size_bytes: int, client: Connection
) -> Prediction:
    """Have a stored image classified. Raises the `ServiceError` that prevented it, at the latest after `timeout_s`.

    Where the client hangs up, that is `ClientGone`, and nothing is computed for it.
    """
    job = ImageJob.create(image_name, timeout_s, request_id, size_bytes)
    logs.bind(job_id=job.id, image=image_name)
    queue.submit(job)
    client.when_closed(lambda: queue.cancel(job))
    prediction = queue.wait(job)
    logs.bind(label=prediction.label, score=round(prediction.score, 4))
    return prediction


def model_predict_all(
    queue: JobQueue, jobs: Sequence[ImageJob], client: Connection
) -> dict[str, Prediction | ServiceError]:
    """Have stored images classified, all at once; return by job id what became of each.

    Raises `ClientGone` where the client hangs up, and nothing is computed for it.
    """
    outcomes: dict[str, Prediction | ServiceError] = {}
    submitted = [job for job in jobs if _submit(queue, job, outcomes)]
    logs.bind(job_ids=[job.id for job in submitted])
    client.when_closed(lambda: _cancel(queue, submitted))
    for job in submitted:
        outcomes[job.id] = _wait(queue, job)
    if gone := next((error for error in outcomes.values() if isinstance(error, ClientGone)), None):
        raise gone
    return outcomes


def _submit(queue: JobQueue, job: ImageJob, outcomes: dict[str, Prediction | ServiceError]) -> bool:
    try:
        queue.submit(job)
    except ServiceError as err:
        outcomes[job.id] = err
        return False
    return True


def _cancel(queue: JobQueue, jobs: Sequence[ImageJob]) -> None:
    for job in jobs:
        queue.cancel(job)


def _wait(queue: JobQueue, job: ImageJob) -> Prediction | ServiceError:
    try:
        return queue.wait(job)
    except ServiceError as err:
        return err
