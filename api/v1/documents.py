"""The request and response documents of `/v1`, for validation and for OpenAPI.

These models validate requests. Responses are built as plain dictionaries, which cost less, and the tests check them
against these models.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from jobs.schema import TOP_CLASSES

MAX_IMAGES = 16
# Longer names are of no use.
MAX_NAME = 255

# As in OpenAPI 3.0, by which tools recognize a file.
_FILE: dict[str, Any] = {"type": "string", "format": "binary"}
# A white pixel, as a GIF.
_EXAMPLE = "R0lGODdhAQABAIAAAP///////ywAAAAAAQABAAACAkQBADs="


class Options(BaseModel):
    """What may be asked for with images, in the address, a form, or JSON."""

    top_k: int = Field(default=TOP_CLASSES, ge=1, le=TOP_CLASSES, description="How many classes to tell of")
    model: str | None = Field(
        default=None,
        max_length=MAX_NAME,
        description="The model to use, by its name, as in `pets`, or a version of it, as in `pets@2`; without, the "
        "first of `/v1/models`",
    )
    webhook: str | None = Field(
        default=None,
        max_length=2000,
        pattern=r"^https?://[^/@\s]+(/\S*)?$",
        description="Where to post the prediction to when it is done, with `Prefer: respond-async` alone",
    )


class UploadForm(BaseModel):
    """A form with files. The parameters of the address may be in it, too."""

    file: list[Any] = Field(
        min_length=1, max_length=MAX_IMAGES, json_schema_extra={"items": _FILE}, description="PNG, JPEG or GIF files"
    )


class EncodedImage(BaseModel):
    """An image in JSON."""

    model_config = ConfigDict(extra="forbid")

    data: str = Field(
        description="The file in base64", examples=[_EXAMPLE], json_schema_extra={"contentEncoding": "base64"}
    )
    filename: str | None = Field(default=None, max_length=MAX_NAME, description="What to call it in the answer")


class EncodedImages(Options):
    """Images in JSON."""

    images: list[EncodedImage] = Field(min_length=1, max_length=MAX_IMAGES)


class IdempotencyHeaders(BaseModel):
    """The header that makes a request safe to send again."""

    idempotency_key: str | None = Field(
        default=None,
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="A request that is sent again with the same key is answered as the first time",
    )


class PredictionHeaders(IdempotencyHeaders):
    """Headers that change how a request is answered."""

    prefer: str | None = Field(
        default=None, alias="Prefer", description="`respond-async`: the answer is 202, and the prediction comes later"
    )
    priority: str | None = Field(
        default=None,
        alias="Priority",
        description="How urgent it is (RFC 9218): from `u=5` to `u=7`, or without an urgency and with "
        "`Prefer: respond-async`, other work goes first; what cannot be understood is ignored",
    )
    cache_control: str | None = Field(
        default=None,
        alias="Cache-Control",
        description="`no-store`: a prediction that is answered at once is not kept, so it takes no feedback",
    )


class Wait(BaseModel):
    """How long to wait."""

    wait: float = Field(default=0, ge=0, le=60, description="Seconds to wait for a prediction that is not done")


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(description="An address that says more of this kind of problem")
    title: str
    status: int
    detail: str = Field(description="What is wrong, and what to do")
    code: str = Field(description="The kind of problem, for programs")
    request_id: str | None = Field(default=None, description="What the logs call the request")


class ServedModel(BaseModel):
    """Which model has answered."""

    name: str
    version: str


class ClassScore(BaseModel):
    """A class, and how sure the model is of it."""

    label: str
    class_index: int = Field(description="Its index in the network's output")
    score: float = Field(ge=0, le=1)


class Timings(BaseModel):
    """Where the time of an image went, in milliseconds."""

    queue_ms: float = Field(description="Waiting for a worker")
    decode_ms: float = Field(description="Decoding the images of its batch")
    inference_ms: float = Field(description="The network, for its batch")
    batch_size: int


class ImageResult(BaseModel):
    """One image of a request: its predictions, or what was wrong; neither of them while it waits."""

    filename: str | None
    image: str | None = Field(description="The SHA-256 of its content, where it could be stored")
    predictions: list[ClassScore] | None = Field(description="The most probable classes, that one first")
    timings: Timings | None = Field(description="Absent where the answer came from the cache")
    error: Problem | None


class Prediction(BaseModel):
    """The predictions of a request, in the order of its images."""

    id: str
    status: Literal["pending", "done"]
    created: datetime
    model: ServedModel | None = Field(description="Absent while no image is classified")
    results: list[ImageResult]


class Feedback(BaseModel):
    """Whether a prediction was right."""

    model_config = ConfigDict(extra="forbid")

    correct: bool
    label: Annotated[str, StringConstraints(strip_whitespace=True)] | None = Field(
        default=None, min_length=1, max_length=MAX_NAME, description="What the image shows"
    )
    none: bool = Field(default=False, description="Whether the model has no class for what the image shows")
    comment: str | None = Field(default=None, max_length=2000)
    image: int = Field(default=0, ge=0, lt=MAX_IMAGES, description="Which image of the request, from 0")

    @model_validator(mode="after")
    def _check_none(self) -> "Feedback":
        if self.none and (self.correct or self.label is not None):
            raise ValueError("none goes with a wrong prediction, and without a label")
        return self


class FeedbackRecord(BaseModel):
    """What is kept of a feedback."""

    time: datetime
    prediction: str = Field(description="The id of the prediction")
    image: str = Field(description="The SHA-256 of the image")
    model: str
    version: str
    predicted_label: str
    predicted_score: float
    correct: bool
    label: str | None
    none: bool = Field(default=False, description="Whether the model has no class for what the image shows")
    comment: str | None
    key: str | None = Field(description="The name of the API key that sent it")


class FeedbackQuery(BaseModel):
    """Which feedback to list."""

    correct: bool | None = Field(default=None, description="Only on right predictions, or only on wrong ones")
    predicted_label: str | None = Field(default=None, description="Only on predictions of this class")
    label: str | None = Field(default=None, description="Only with this as the right class")
    model: str | None = Field(default=None, description="Only on predictions of this model")
    version: str | None = Field(default=None, description="Only on predictions of this version")
    cursor: int = Field(default=0, ge=0, lt=2**63, description="Where to go on: `next` of the page before")
    limit: int = Field(default=100, ge=1, le=1000, description="How many at most")


class FeedbackPage(BaseModel):
    """A page of feedback, oldest first."""

    feedback: list[FeedbackRecord]
    next: int | None = Field(description="The cursor of the next page, which may be empty; absent at the end")


class ModelInput(BaseModel):
    """What the network takes: pictures are brought to this size."""

    height: int
    width: int
    resize: str = Field(description="`crop`: the centre is kept; `squash`: the whole picture is")


class ModelSummary(BaseModel):
    """A model, in the version that serves."""

    name: str
    version: str
    precision: str = Field(description="The arithmetic inside the network")
    classes: int


class Model(ModelSummary):
    """A model and its classes."""

    input: ModelInput
    labels: list[str]


class Models(BaseModel):
    """The models that are served."""

    models: list[ModelSummary]


class Standing(BaseModel):
    """What a version is for, and whether it could be used."""

    role: Literal["serves", "canary", "shadow", "idle"] = Field(
        description="`serves` answers what no `canary` does; a `shadow` computes for comparison, an `idle` one what "
        "names it alone"
    )
    percent: int = Field(ge=0, le=100, description="How much of the images it gets for that")
    workers: int = Field(description="Its workers that are alive")
    ready: bool = Field(description="Whether there are any")


class VersionSummary(Standing, ModelSummary):
    """A version of a model."""


class Versions(BaseModel):
    """The versions of a model."""

    versions: list[VersionSummary]


class Version(Standing, Model):
    """A version of a model, and its classes."""
