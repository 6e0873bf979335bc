"""Converts tensors: the input's JSON or binary data into images, and values into outputs."""

import math
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

from api.uploads.base64_image import decode_base64
from api.uploads.json_body import JsonBody
from api.uploads.structure import ImageLimits
from api.v1.documents import MAX_IMAGES
from api.v2.documents import Input
from api.v2.png import CHANNELS, encode_png
from runtime.errors import BadParameter, TooManyImages

_LENGTH = struct.Struct("<I")
_MAX_SIDE = 2**31 - 1  # of a PNG

Value = float | int | str


def images(tensor: Input, binary: memoryview, body: JsonBody, limits: ImageLimits) -> list[bytes]:
    """Return the input's images as files, after checking its shape against the limits.

    The data may be in the JSON body. Raises `BadParameter`, `TooManyImages` or `TooManyPixels`.
    """
    _check_shape(tensor, limits)
    _check_where_its_data_is(tensor, len(binary))
    return _files(tensor, binary, body) if tensor.datatype == "BYTES" else _pictures(tensor, binary)


def _check_shape(tensor: Input, limits: ImageLimits) -> None:
    count, *sides = tensor.shape
    if not all(0 < side <= _MAX_SIDE for side in tensor.shape):
        raise BadParameter(f"inputs.0.shape: each of its numbers is from 1 to {_MAX_SIDE}.")
    if tensor.datatype == "BYTES" and sides not in ([], [1]):
        raise BadParameter("inputs.0.shape: of N encoded images, as BYTES, it is [N] or [N, 1].")
    if tensor.datatype == "UINT8" and (len(sides) != 3 or sides[2] != CHANNELS):
        raise BadParameter("inputs.0.shape: of the pixels of N images, as UINT8, it is [N, height, width, 3].")
    if count > MAX_IMAGES:
        raise TooManyImages(f"The input has {count} images; at most {MAX_IMAGES} are accepted.")
    if tensor.datatype == "UINT8":
        limits.check_size(width=sides[1], height=sides[0])


def _check_where_its_data_is(tensor: Input, binary_size: int) -> None:
    told_size = tensor.parameters.binary_data_size
    if (told_size is None) == (tensor.data is None):
        raise BadParameter('inputs.0: it needs "data", or "binary_data_size" among its parameters, and not both.')
    if (told_size or 0) != binary_size:
        raise BadParameter(f"inputs.0.parameters.binary_data_size: {binary_size} bytes follow the JSON.")


def _files(tensor: Input, binary: memoryview, body: JsonBody) -> list[bytes]:
    [count, *_] = tensor.shape
    if tensor.data is None:
        return _split(binary, count)
    texts = _flat(tensor.data, len(tensor.shape))
    if len(texts) != count or not all(isinstance(text, str) for text in texts):
        raise BadParameter(f"inputs.0.data: of this shape, it is {count} texts.")
    return [decode_base64(body.text(text), f"inputs.0.data.{number}") for number, text in enumerate(texts)]


def _split(binary: memoryview, count: int) -> list[bytes]:
    """Return the elements of a BYTES tensor, each preceded by its length."""
    elements, end = [], 0
    with suppress(struct.error):  # there are fewer
        for _ in range(count):
            [length] = _LENGTH.unpack_from(binary, end)
            end += _LENGTH.size + length
            elements.append(bytes(binary[end - length : end]))
    if len(elements) != count or end != len(binary):
        raise BadParameter(f"inputs.0: its binary data are not {count} elements, each behind its length in 4 bytes.")
    return elements


def _pictures(tensor: Input, binary: memoryview) -> list[bytes]:
    count, height, width, _ = tensor.shape
    pixels = binary if tensor.data is None else memoryview(_octets(_flat(tensor.data, len(tensor.shape))))
    if len(pixels) != math.prod(tensor.shape):
        raise BadParameter(f"inputs.0: it has {len(pixels)} elements, which do not fit its shape.")
    size = len(pixels) // count
    return [encode_png(pixels[start : start + size], width, height) for start in range(0, len(pixels), size)]


def _octets(values: list[Any]) -> bytes:
    try:
        return bytes(values)
    except (TypeError, ValueError) as err:
        raise BadParameter("inputs.0.data: as UINT8, it is integers from 0 to 255.") from err


def _flat(data: list[Any], dimensions: int) -> list[Any]:
    """Return a tensor's elements, which JSON may hold as one list or as nested lists."""
    for _ in range(dimensions - 1):
        if all(isinstance(each, list) for each in data):
            data = list(chain.from_iterable(data))
    return data


def pack(datatype: str, values: Sequence[Value]) -> bytes:
    """Return the values of an output as binary data."""
    return _PACK[datatype](values)


def _pack_texts(texts: Sequence[Any]) -> bytes:
    encoded = [text.encode() for text in texts]
    return b"".join(_LENGTH.pack(len(each)) + each for each in encoded)


_PACK: dict[str, Callable[[Sequence[Any]], bytes]] = {
    "FP32": lambda values: struct.pack(f"<{len(values)}f", *values),
    "INT64": lambda values: struct.pack(f"<{len(values)}q", *values),
    "BYTES": _pack_texts,
}
