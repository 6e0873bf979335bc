"""Models of the protocol's requests; unknown parameters are ignored."""

from typing import Any, Literal

from pydantic import BaseModel, Field, StrictBool, StrictInt

from jobs.schema import TOP_CLASSES

# Longer ids are of no use.
_MAX_ID = 255
_MAX_OUTPUTS = 16

OutputName = Literal["scores", "class_index", "labels"]
# Datatypes of the outputs. Each has shape [images, classes], the most probable class first.
OUTPUTS: dict[OutputName, str] = {"scores": "FP32", "class_index": "INT64", "labels": "BYTES"}


class InputParameters(BaseModel):
    """Parameters of an input."""

    binary_data_size: StrictInt | None = None


class Input(BaseModel):
    """The images, as encoded files or as pixels."""

    name: Literal["image"]
    datatype: Literal["BYTES", "UINT8"]
    shape: list[StrictInt] = Field(min_length=1, max_length=4)
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = None


class OutputParameters(BaseModel):
    """Parameters of an output."""

    binary_data: StrictBool | None = None
    classification: StrictInt | None = Field(default=None, ge=1, le=TOP_CLASSES)


class Output(BaseModel):
    """A requested output."""

    name: OutputName
    parameters: OutputParameters = OutputParameters()


class RequestParameters(BaseModel):
    """Defaults for all outputs."""

    binary_data_output: StrictBool = False


class InferenceRequest(BaseModel):
    """The JSON part of a request; binary data may follow it."""

    id: str | None = Field(default=None, max_length=_MAX_ID)
    parameters: RequestParameters = RequestParameters()
    inputs: list[Input] = Field(min_length=1, max_length=1)
    outputs: list[Output] = Field(default=[], max_length=_MAX_OUTPUTS)
