"""Between the views and the queue: one image in, its prediction out."""

from api.connection import Connection
from jobs import logs
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
