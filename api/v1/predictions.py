"""Classifies the images of a request, now or later, and builds the responses."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from typing import Any
from uuid import uuid4

from flask import g, request

from api import middleware
from api.errors.problems import problem
from api.http import connection
from api.middleware import model_predict_all
from api.v1.requests import PredictionRequest, Upload
from api.views import Services, store, timed
from api.webhooks import webhooks
from jobs.queue.interface import Admission, JobQueue
from jobs.results import Result
from jobs.schema import ImageJob, JobFailure, Lane, Outcome, Prediction, Timings, image_hash
from runtime import waiting
from runtime.errors import (
    BadParameter,
    DeadlinePassed,
    QueueFull,
    QueueUnavailable,
    ServiceError,
    Unavailable,
    WebhooksOff,
)

log = logging.getLogger(__name__)

# Statuses of images that may be sent again later.
_FOR_NOW = frozenset({QueueFull.status, Unavailable.status, DeadlinePassed.status})

Document = dict[str, Any]
# Outcomes with the original exception, which has more detail than the `JobFailure` that is stored.
_Settled = Mapping[str, Prediction | ServiceError]


@dataclass(frozen=True, slots=True)
class _Image:
    """An image of a request: its file name, and its job or the error that prevented one."""

    filename: str | None
    job: ImageJob
    error: ServiceError | None = None

    @property
    def name(self) -> str | None:
        """The name in the image store."""
        return None if self.error else self.job.image_name


def classify(services: Services, asked: PredictionRequest) -> tuple[str, Result]:
    """Classify images and wait for them; return the result and its id, under which it is kept on request.

    A bad image fails alone. If all fail for the same reason, that error is raised.
    """
    settings = services.settings
    if asked.options.webhook:
        raise BadParameter("webhook: it is for requests with the header `Prefer: respond-async`.")
    images = _store_and_submit(services, asked, settings.predict_timeout_s)
    jobs = [image.job for image in images if not image.error]
    errors = {image.job.id: image.error for image in images if image.error}
    outcomes = {**errors, **model_predict_all(services.queue, jobs, connection.current())}
    services.metrics.predicted(*outcomes.values())
    timed(*(outcome for outcome in outcomes.values() if isinstance(outcome, Prediction)))
    _raise_if_all_failed(list(outcomes.values()))
    result_id, result = uuid4().hex, _result(asked, images, outcomes)
    if asked.keeps:
        _keep(services, result_id, result)
    return result_id, result


def _keep(services: Services, result_id: str, result: Result) -> None:
    """Store the result of a request that waited, if Redis is up."""
    try:
        services.results.keep(result_id, result, services.settings.result_ttl_s)
    except QueueUnavailable as err:
        log.warning("a prediction is not kept: %s", err)


def _store_and_submit(services: Services, asked: PredictionRequest, timeout_s: float) -> list[_Image]:
    """Store images and submit their jobs; return each with its error, if any. Raises `NoSuchModel`."""
    images = _store(services, asked, timeout_s)
    return waiting.gather([partial(_submitted, image, services.queue.submit) for image in images])


def _submitted(image: _Image, submit_to: Callable[[ImageJob], Admission]) -> _Image:
    """Submit an image's job, unless it has an error already; return the image with the error, if any."""
    try:
        if not image.error:
            middleware.submit(submit_to, image.job)
    except ServiceError as err:
        return replace(image, error=err)
    return image


def submit(services: Services, asked: PredictionRequest) -> tuple[str, Result]:
    """Submit images to be classified later; return their result so far, and its id.

    Raises as `classify` does, if no image could be submitted.
    """
    settings = services.settings
    if asked.options.webhook and not settings.webhook_secret:
        raise WebhooksOff
    images = _store(services, asked, settings.async_timeout_s)
    refused: dict[str, ServiceError] = {image.job.id: image.error for image in images if image.error}
    if len(refused) == len(images):
        _raise_if_all_failed(list(refused.values()))
    result_id, result = uuid4().hex, _result(asked, images, refused)
    services.results.keep(result_id, result, settings.result_ttl_s + int(settings.async_timeout_s))
    if asked.options.webhook:
        webhooks.announce(services.results, result_id)
    submit_kept = partial(services.queue.submit_kept, result_id=result_id)
    submitted = waiting.gather([partial(_submitted, image, submit_kept) for image in images])
    refused = {image.job.id: image.error for image in submitted if image.error}
    if len(refused) == len(images):
        services.results.drop(result_id)
        _raise_if_all_failed(list(refused.values()))
    for job_id in refused.keys() - result.outcomes.keys():
        services.results.add(result_id, job_id, JobFailure.of(refused[job_id]))
    return result_id, replace(result, outcomes=_kept(refused))


def _store(services: Services, asked: PredictionRequest, timeout_s: float) -> list[_Image]:
    """Store images, and create a job for each; free their memory. Raises `NoSuchModel`."""
    model = asked.options.model
    if model is not None:
        services.queue.versions().find(model)
    connection.current().drop_body()  # its images are in the uploads
    images = waiting.gather([partial(_store_one, each, timeout_s, asked.lane, model or "") for each in asked.uploads])
    asked.uploads.clear()
    return images


def _store_one(upload: Upload, timeout_s: float, lane: Lane, model: str) -> _Image:
    try:
        return _Image(upload.filename, store(upload.data, None, timeout_s, lane, model))
    except ServiceError as err:
        return _Image(upload.filename, ImageJob.create("", timeout_s, g.request_id), err)


def _raise_if_all_failed(outcomes: Sequence[Prediction | ServiceError]) -> None:
    errors = [outcome for outcome in outcomes if isinstance(outcome, ServiceError)]
    if len(errors) == len(outcomes) and len({error.code for error in errors}) == 1:
        raise errors[0]


def _result(asked: PredictionRequest, images: list[_Image], outcomes: _Settled) -> Result:
    """Return the result to store for a request."""
    kept = {
        "created": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "top_k": asked.options.top_k,
        "webhook": asked.options.webhook,
        "lane": asked.lane,
        "root": request.script_root,
        "images": [{"filename": image.filename, "name": image.name} for image in images],
    }
    return Result(kept, tuple(image.job.id for image in images), _kept(outcomes))


def _kept(outcomes: _Settled) -> dict[str, Outcome]:
    return {
        job_id: JobFailure.of(outcome) if isinstance(outcome, ServiceError) else outcome
        for job_id, outcome in outcomes.items()
    }


def is_refused_for_now(result: Result) -> bool:
    """Return whether an image failed with an error that may not recur when it is sent again later."""
    failures = (outcome for outcome in result.outcomes.values() if isinstance(outcome, JobFailure))
    return any(failure.error().status in _FOR_NOW for failure in failures)


def document(queue: JobQueue, result_id: str, result: Result) -> Document:
    """Return the response to a request for predictions."""
    outcomes = [result.outcomes.get(job_id) for job_id in result.job_ids]
    top_k, root = result.request["top_k"], result.request.get("root", "")  # an earlier version stored none
    signed = next((outcome.model for outcome in outcomes if isinstance(outcome, Prediction)), None)
    return {
        "id": result_id,
        "status": "done" if result.is_done else "pending",
        "created": result.request["created"],
        "model": served_model(queue, signed) if signed is not None else None,
        "results": [
            {
                "filename": image["filename"],
                "image": image["name"] and image_hash(image["name"]),
                **_told(outcome, top_k, root),
            }
            for image, outcome in zip(result.request["images"], outcomes, strict=True)
        ],
    }


def served_model(queue: JobQueue, model_id: str) -> dict[str, str]:
    """Return the name and the version of a prediction's model."""
    try:
        model = queue.model(model_id)
    except QueueUnavailable:
        model = None
    return {"name": model.name, "version": model.version} if model else {"name": model_id, "version": ""}


def _told(outcome: Outcome | None, top_k: int, root: str) -> Document:
    """Return the response fields of an image."""
    if isinstance(outcome, Prediction):
        return {"predictions": _classes(outcome, top_k), "timings": _timings(outcome.timings), "error": None}
    error = outcome.error() if outcome else None
    told = problem(error.code, error.status, str(error), root=root) if error else None
    return {"predictions": None, "timings": None, "error": told}


def _classes(prediction: Prediction, top_k: int) -> list[Document]:
    top: Iterator[tuple[str, int, float]] = iter(
        prediction.top[:top_k] or [(prediction.label, prediction.class_index, prediction.score)]
    )
    return [{"label": label, "class_index": index, "score": round(score, 4)} for label, index, score in top]


def _timings(timings: Timings | None) -> Document | None:
    if timings is None:
        return None
    return {
        "queue_ms": round(timings.queue_ms, 2),
        "decode_ms": round(timings.decode_ms, 2),
        "inference_ms": round(timings.inference_ms, 2),
        "batch_size": timings.batch_size,
    }
