"""The messages that cross the queue: jobs and their outcomes, models, quarantined images."""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Literal, NamedTuple, TypeVar
from uuid import uuid4

from pydantic import BeforeValidator

from runtime.errors import ServiceError, UnreadableMessage, error_types
from runtime.reading import Damaged, read, understood

T = TypeVar("T")

# A client waits for an interactive job; a bulk job is background work, and lets interactive jobs go first.
Lane = Literal["interactive", "bulk"]


# Fields of a job that workers of an earlier version do not know, and the values with which they are left out.
_LEFT_OUT = (("lane", "interactive"), ("traceparent", ""), ("tracestate", ""), ("model", ""), ("served", None))


# The deadline of a job that has none.
_UNKNOWN_TIMEOUT_S = 60.0


def _first(count: int) -> BeforeValidator:
    """Return a validator that drops items that a later version appended to a list in a message."""
    return BeforeValidator(lambda found: found[:count] if isinstance(found, list) else found)


def image_hash(image_name: str) -> str:
    """Return the hash of an image's content, which its name begins with."""
    return image_name.partition(".")[0]


class Served(NamedTuple):
    """The answer that a copy for comparison is compared with, and the ids of both models.

    `ms` is the time that the image took in its batch. In messages it is a list.
    """

    model: str
    candidate: str
    label: str
    score: float
    ms: float


@dataclass(frozen=True, slots=True)
class ImageJob:
    """One image to classify.

    `image_name` is the image's name in the image store; `timeout_s` is the number of seconds after submission when the
    answer is no longer of use; `request_id` is the request's id in the logs; `size_bytes` is the image's size; it waits
    in its `lane`. `traceparent` and `tracestate` are the W3C headers of the span that submitted it, if it is traced.
    `model` is the name of a model, as in `pets`, or of one of its versions, as in `pets@2`, if the request names one. A
    job that is processed only for comparison has `served`.
    """

    id: str
    image_name: str
    timeout_s: float
    request_id: str = ""
    size_bytes: int = 0
    lane: Lane = "interactive"
    traceparent: str = ""
    tracestate: str = ""
    model: str = ""
    served: Annotated[Served, _first(len(Served._fields))] | None = None

    @property
    def image_hash(self) -> str:
        """The hash of the image's content: the first part of its name."""
        return image_hash(self.image_name)

    @classmethod
    def create(
        cls,
        image_name: str,
        timeout_s: float,
        request_id: str = "",
        size_bytes: int = 0,
        lane: Lane = "interactive",
        model: str = "",
    ) -> "ImageJob":
        """Return a job with a new, unique id."""
        return cls(uuid4().hex, image_name, timeout_s, request_id, size_bytes, lane, model=model)

    def encode(self) -> bytes:
        """Return the job as UTF-8 JSON."""
        job = _fields(self)
        for name, usual in _LEFT_OUT:
            if job[name] == usual:
                del job[name]
        return json.dumps(job).encode()

    @classmethod
    def decode(cls, data: bytes) -> "ImageJob":
        """Return the job that `encode` wrote. Raises `Damaged`."""
        return read(cls, data)

    @classmethod
    def salvage(cls, data: bytes) -> "ImageJob":
        """Return a job with the fields that can be read, enough to answer it and to remove it from the queue."""
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            found = None
        found = found if isinstance(found, dict) else {}

        def value(name: str, usual: T) -> T:
            told = found.get(name)
            return told if isinstance(told, type(usual)) else usual

        return cls(
            value("id", ""),
            value("image_name", ""),
            _UNKNOWN_TIMEOUT_S,
            value("request_id", ""),
            value("size_bytes", 0),
        )


@dataclass(frozen=True, slots=True)
class Timings:
    """Durations in a prediction, in milliseconds: the wait for a worker, then those of its batch of `batch_size`."""

    queue_ms: float
    decode_ms: float
    inference_ms: float
    batch_size: int


# The maximum number of classes in a prediction.
TOP_CLASSES = 5


class ClassScore(NamedTuple):
    """A class: its label, its index in the network's output, its score in 0..1. In messages it is a list."""

    label: str
    class_index: int
    score: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The most probable class of one image: its label, its index in the network's output, its score in 0..1.

    `model` is the id of the model; its predictions are cached under it. A cached prediction has no `timings`. `top` has
    the `TOP_CLASSES` most probable classes in descending order, or as many as the model knows; it is empty if only the
    first is known.
    """

    label: str
    class_index: int
    score: float
    model: str = ""
    timings: Timings | None = field(default=None, compare=False)
    top: tuple[Annotated[ClassScore, _first(len(ClassScore._fields))], ...] = ()


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The information on a model. Its `id` marks its predictions, also in the cache, and differs if its answers do.

    `height` and `width` are its network's input in pixels, to which pictures are resized, cropped or not (`resize`).
    `labels` are in the order of its classes.
    """

    id: str
    name: str = ""
    version: str = ""
    precision: str = ""
    height: int = 0
    width: int = 0
    resize: str = ""
    labels: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Return the fields as UTF-8 JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> "ModelInfo":
        """Return the decoded fields. Raises `Damaged`."""
        return read(cls, data)


@dataclass(frozen=True, slots=True)
class JobFailure:
    """The reason why an accepted job has no prediction: the code and message of a `ServiceError`."""

    code: str
    message: str

    @classmethod
    def of(cls, error: ServiceError) -> "JobFailure":
        """Return `error` as a failure."""
        return cls(error.code, str(error))

    def error(self) -> ServiceError:
        """Return the error of this failure; an unknown code gives a plain `ServiceError`."""
        return error_types().get(self.code, ServiceError)(self.message)


@dataclass(frozen=True, slots=True)
class SetAsideImage:
    """A quarantined image: the job that brought it, the last worker that it ended, and when, in Unix seconds."""

    image_name: str
    job_id: str
    worker: str
    at_s: float

    @property
    def image_hash(self) -> str:
        """The hash of the image's content, by which it is quarantined."""
        return image_hash(self.image_name)

    def encode(self) -> bytes:
        """Return the fields as UTF-8 JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> "SetAsideImage":
        """Return the decoded fields. Raises `Damaged`."""
        return read(cls, data)


Outcome = Prediction | JobFailure


@dataclass(frozen=True, slots=True)
class _Message:
    """An encoded outcome: one of the two is set."""

    prediction: Prediction | None = None
    failure: JobFailure | None = None


def encode_outcome(outcome: Outcome) -> bytes:
    """Return a prediction or a failure as UTF-8 JSON."""
    kind = "prediction" if isinstance(outcome, Prediction) else "failure"
    return json.dumps({kind: outcome}, default=_fields, separators=(",", ":")).encode()


def _fields(message: ImageJob | Prediction | JobFailure | Timings) -> dict[str, object]:
    """Return a message's fields. `asdict` would also copy their contents, which takes three times as long."""
    return {each.name: getattr(message, each.name) for each in fields(message)}


def decode_outcome(data: bytes) -> Outcome:
    """Return the outcome that `encode_outcome` wrote. Raises `Damaged`."""
    message = read(_Message, data)
    outcome = message.failure or message.prediction
    if outcome is None:
        raise Damaged("neither a prediction nor a failure")
    return outcome


def outcome_or_failure(what: str, data: bytes) -> Outcome:
    """Return a decoded outcome, or a failure if it cannot be read, which is logged once per `what`."""
    return understood(what, decode_outcome, data) or JobFailure.of(UnreadableMessage())
