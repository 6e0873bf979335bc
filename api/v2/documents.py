"""The parts of the protocol's documents that this service reads; parameters that it does not know have no effect."""

from typing import Any, Literal

from pydantic import BaseModel, Field, StrictBool, StrictInt

from jobs.schema import TOP_CLASSES

# Longer ids say nothing more to anybody.
_MAX_ID = 255
_MAX_OUTPUTS = 16

OutputName = Literal["scores", "class_index", "labels"]
# Their datatypes. Each is of shape [images, classes], the most probable class first.
OUTPUTS: dict[OutputName, str] = {"scores": "FP32", "class_index": "INT64", "labels": "BYTES"}


class InputParameters(BaseModel):
    """How an input travels."""

    binary_data_size: StrictInt | None = None


class Input(BaseModel):
    """The images, as encoded files or as pixels."""

    name: Literal["image"]
    datatype: Literal["BYTES", "UINT8"]
    shape: list[StrictInt] = Field(min_length=1, max_length=4)
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = None


class OutputParameters(BaseModel):
    """How an output is to be told."""

    binary_data: StrictBool | None = None
    classification: StrictInt | None = Field(default=None, ge=1, le=TOP_CLASSES)


class Output(BaseModel):
    """An output that is wanted."""

    name: OutputName
    parameters: OutputParameters = OutputParameters()


class RequestParameters(BaseModel):
    """How all outputs are to be told that do not say otherwise."""

    binary_data_output: StrictBool = False


class InferenceRequest(BaseModel):
    """What is asked, but for what follows in binary."""

    id: str | None = Field(default=None, max_length=_MAX_ID)
    parameters: RequestParameters = RequestParameters()
    inputs: list[Input] = Field(min_length=1, max_length=1)
    outputs: list[Output] = Field(default=[], max_length=_MAX_OUTPUTS)
