"""Stores feedback on predictions."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone

from flask import g

from api.feedback.labels import meant
from api.feedback.records import Record
from api.v1.documents import Feedback
from api.v1.predictions import served_model
from api.views import Services
from jobs.queue.interface import JobQueue
from jobs.results import Result
from jobs.schema import JobFailure, Prediction, image_hash
from runtime.errors import BadParameter, PredictionFailed, PredictionPending, QueueUnavailable


def fingerprint(result_id: str, feedback: Feedback) -> str:
    """Return a hash that identifies this feedback on this prediction."""
    return hashlib.sha256(f"{result_id}\n{feedback.model_dump_json()}".encode()).hexdigest()


def keep(services: Services, result_id: str, result: Result, feedback: Feedback) -> Record:
    """Store feedback on an image of a prediction, and the image if the prediction was wrong; return the record."""
    if feedback.image >= len(result.job_ids):
        raise BadParameter(f"image: the request had {len(result.job_ids)}, counted from 0.")
    prediction = _prediction(result, feedback.image)
    name = result.request["images"][feedback.image]["name"]
    told = {"time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), "prediction": result_id}
    label = _label(services.queue, prediction.model, feedback.label)
    record: Record = {**told, **_judged(services.queue, name, prediction), **_judgement(feedback, label)}
    services.records.append(record)
    _count(services, prediction, feedback)
    if not feedback.correct:
        services.feedback.keep_image(name, services.images)
        with suppress(QueueUnavailable):
            services.queue.forget(name)
    return record


def _count(services: Services, prediction: Prediction, feedback: Feedback) -> None:
    labels: Sequence[str] = ()
    with suppress(QueueUnavailable):
        labels = services.queue.labels()
    services.metrics.judged(prediction.label, labels, correct=feedback.correct)


def _judged(queue: JobQueue, name: str, prediction: Prediction) -> Record:
    """Return the record's fields about the image and its prediction."""
    model = served_model(queue, prediction.model)
    return {
        "image": image_hash(name),
        "model": model["name"],
        "version": model["version"],
        "predicted_label": prediction.label,
        "predicted_score": round(prediction.score, 4),
    }


def _label(queue: JobQueue, model_id: str, said: str | None) -> str | None:
    """Return the model's label that matches the given one, or the given one if none does."""
    with suppress(QueueUnavailable):
        model = queue.model(model_id)
        return (said and model and meant(said, model.labels)) or said
    return said


def _judgement(feedback: Feedback, label: str | None) -> Record:
    """Return the record's fields about the feedback and its API key."""
    return {
        "correct": feedback.correct,
        "label": label,
        "none": feedback.none,
        "comment": feedback.comment,
        "key": g.get("key_name"),
    }


def _prediction(result: Result, image: int) -> Prediction:
    """Return an image's prediction. Raises `PredictionPending` or `PredictionFailed`."""
    outcome = result.outcomes.get(result.job_ids[image])
    if outcome is None:
        raise PredictionPending
    if isinstance(outcome, JobFailure):
        raise PredictionFailed
    return outcome
