"""Classifies the images of a request, all or none, and builds the response."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from api import middleware
from api.http import connection
from api.middleware import model_predict_all
from api.v2.documents import OUTPUTS, InferenceRequest, Output, OutputName
from api.v2.tensors import Value, pack
from api.views import Services, store, timed
from jobs.queue.interface import JobQueue
from jobs.schema import TOP_CLASSES, ClassScore, ImageJob, Lane, ModelInfo, Prediction
from runtime.errors import ServiceError

Document = dict[str, Any]

# The index of each output's values in a `ClassScore`.
_FIELDS: dict[OutputName, int] = {"labels": 0, "class_index": 1, "scores": 2}


def metadata(model: ModelInfo, versions: Sequence[str]) -> Document:
    """Return the protocol's metadata of a model that is served in these versions."""
    shape = [-1, min(TOP_CLASSES, len(model.labels))]
    return {
        "name": model.name,
        "versions": list(versions),
        "platform": "openvino",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": name, "datatype": datatype, "shape": shape} for name, datatype in OUTPUTS.items()],
    }


def infer(services: Services, images: list[bytes], lane: Lane, model: str) -> list[Prediction]:
    """Classify images with a model or a version.

    Raises the error of the first image that fails: the protocol's response has no place for errors.
    """
    with services.metrics.counting_failure():
        jobs = _store_all(images, services.settings.predict_timeout_s, lane, model)
        _submit_all(services.queue, jobs)
    outcomes = model_predict_all(services.queue, jobs, connection.current())
    services.metrics.predicted(*outcomes.values())
    predictions = [_prediction(outcomes[job.id], number, len(jobs)) for number, job in enumerate(jobs, 1)]
    timed(*predictions)
    return predictions


def _store_all(images: list[bytes], timeout_s: float, lane: Lane, model: str) -> list[ImageJob]:
    """Store images, and return a job for each; free their memory and clear the list."""
    jobs = []
    for number, image in enumerate(images, 1):
        with _saying_which(number, len(images)):
            jobs.append(store(image, None, timeout_s, lane, model))
    images.clear()
    connection.current().drop_body()
    return jobs


def _submit_all(queue: JobQueue, jobs: Sequence[ImageJob]) -> None:
    """Submit jobs, all or none."""
    for number, job in enumerate(jobs):
        try:
            middleware.submit(queue.submit, job)
        except ServiceError:
            _withdraw(queue, jobs[:number])
            raise


def _withdraw(queue: JobQueue, jobs: Sequence[ImageJob]) -> None:
    for job in jobs:
        queue.cancel(job)
        with suppress(ServiceError):
            queue.wait(job)


def _prediction(outcome: Prediction | ServiceError, number: int, count: int) -> Prediction:
    if isinstance(outcome, Prediction):
        return outcome
    with _saying_which(number, count):
        raise outcome


@contextmanager
def _saying_which(number: int, count: int) -> Iterator[None]:
    """Add to an error which of several images it is about."""
    try:
        yield
    except ServiceError as err:
        if count == 1:
            raise
        raise type(err)(f"Image {number} of {count}: {err}", err.retry_after_s) from err


def answer(asked: InferenceRequest, model: dict[str, str], predictions: Sequence[Prediction]) -> tuple[bytes, bytes]:
    """Return the response's JSON, and the binary data that follow it."""
    tops = _tops(predictions)
    wanted = asked.outputs or [Output(name=name) for name in OUTPUTS]
    told = [_output(output, tops, binary_by_default=asked.parameters.binary_data_output) for output in wanted]
    document: Document = {"model_name": model["name"], "model_version": model["version"]}
    if asked.id is not None:
        document["id"] = asked.id
    document["outputs"] = [each for each, _ in told]
    return json.dumps(document).encode(), b"".join(binary for _, binary in told)


def _tops(predictions: Sequence[Prediction]) -> list[Sequence[ClassScore]]:
    """Return the most probable classes of each image, equally many for each: a tensor's rows have one length."""
    tops = [each.top or (ClassScore(each.label, each.class_index, each.score),) for each in predictions]
    width = min(len(top) for top in tops)
    return [top[:width] for top in tops]


def _output(output: Output, tops: Sequence[Sequence[ClassScore]], *, binary_by_default: bool) -> tuple[Document, bytes]:
    """Return an output and its binary data, if it is sent in binary."""
    datatype, rows = _tensor(output, tops)
    values = [value for row in rows for value in row]
    told = {"name": output.name, "datatype": datatype, "shape": [len(rows), len(rows[0])]}
    in_binary = output.parameters.binary_data
    if not (binary_by_default if in_binary is None else in_binary):
        return {**told, "data": values}, b""
    binary = pack(datatype, values)
    return {**told, "parameters": {"binary_data_size": len(binary)}}, binary


def _tensor(output: Output, tops: Sequence[Sequence[ClassScore]]) -> tuple[str, list[list[Value]]]:
    """Return an output's datatype and rows; with Triton's extension, each class may be one text."""
    if count := output.parameters.classification:
        return "BYTES", [[f"{each.score:f}:{each.class_index}:{each.label}" for each in top[:count]] for top in tops]
    field = _FIELDS[output.name]
    return OUTPUTS[output.name], [[each[field] for each in top] for top in tops]
