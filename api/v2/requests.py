"""Parses an inference request: JSON with the images in it or in binary behind it, or a single image."""

import re
from dataclasses import dataclass

from flask import request

from api.uploads.json_body import JsonBody
from api.uploads.structure import ImageLimits
from api.v2 import tensors
from api.v2.documents import InferenceRequest, Input
from api.views import SMALL_BYTES, image_limits
from runtime import waiting
from runtime.errors import BadParameter

# The header with the number of bytes of JSON, if the body has more.
JSON_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class Inference:
    """Images as files, and the request without its inputs, whose data would take memory while it waits."""

    images: list[bytes]
    asked: InferenceRequest


def read() -> Inference:
    """Parse the current request. Raises `BadParameter` or `TooLarge`."""
    body = request.get_data(cache=False)
    parse_it = parse if len(body) <= SMALL_BYTES else waiting.blocking(parse)
    return parse_it(body, request.headers.get(JSON_LENGTH), image_limits())


def parse(body: bytes, json_length: str | None, limits: ImageLimits) -> Inference:
    """Parse a body, of which `json_length` bytes are JSON; by default, all. Raises as `read` does."""
    if json_length == "0":  # by Triton's extension, the body is the only element of the only input
        return Inference([body], InferenceRequest(inputs=[Input(name="image", datatype="BYTES", shape=[1])]))
    end = _json_end(json_length, len(body))
    described = JsonBody(body[:end])
    asked = described.parse(InferenceRequest)
    return Inference(tensors.images(asked.inputs.pop(), memoryview(body)[end:], described, limits), asked)


def _json_end(json_length: str | None, body_length: int) -> int:
    if json_length is None:
        return body_length
    if not re.fullmatch("[0-9]{1,18}", json_length) or int(json_length) > body_length:
        raise BadParameter(f"{JSON_LENGTH}: it has to be a number of bytes, of the {body_length} that the body has.")
    return int(json_length)
