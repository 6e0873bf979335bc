"""Between the views and the queue: one image in, its prediction out."""

import logging

from jobs.queue import JobQueue
from jobs.schema import ImageJob, Prediction

log = logging.getLogger(__name__)


def model_predict(queue: JobQueue, image_name: str, timeout_s: float) -> Prediction:
    """Have a stored image classified. Raises the `ServiceError` that prevented it, at the latest after `timeout_s`."""
    job = ImageJob.create(image_name, timeout_s)
    log.debug("job %s submitted for image %s", job.id, image_name)
    queue.submit(job)
    prediction = queue.wait(job)
    log.info("job %s classified image %s as %s (%.4f)", job.id, image_name, prediction.label, prediction.score)
    return prediction
