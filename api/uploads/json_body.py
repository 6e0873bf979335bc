"""Parses JSON bodies at a bounded cost: base64 images are not parsed or copied, and the rest is limited before."""

import codecs
import io
import json
import re
import string
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from typing import TypeVar

from flask import request
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from api.uploads.base64_image import has_only, pieces
from api.uploads.structure import begins_like_image
from runtime.errors import BadParameter, TooManyBytes, TooManyValues
from runtime.validation import said

# Longer texts of these characters are base64 images, which are decoded from the body without copying the text:
# percent signs, hyphens and underscores occur in URLs, backslashes in escapes of line ends and slashes.
_LONG_TEXT_BYTES = 65_536
_IN_BASE64 = (string.ascii_letters + string.digits + "+/= \\%_-").encode()  # JSON has no line ends in a text
_ESCAPE_BYTES = 6
# The beginning of a `data:` URL, before the base64.
_URL_HEAD = re.compile(rb'(?i:data):[^",]{0,200},')

# The rest takes up to thirty times its size in memory: a picture's pixels as numbers are 1.5 MB, indented 4 MB.
_MAX_BYTES = 4_000_000
# Parsing more would block the interpreter too long: lists cost ten times as much as numbers, and names and texts, of
# which 16 images with an odd file name each have a few hundred, as much again.
_MAX_VALUES, _MAX_LISTS, _MAX_TEXTS = 300_000, 100_000, 5_000

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_NAME = re.compile(r"[a-z_0-9]{1,20}")

M = TypeVar("M", bound=BaseModel)

# Feedback with the longest label and comment, however it is escaped, has half of that.
_MAX_DOCUMENT_BYTES = 65_536


def read_document(model: type[M]) -> M:
    """Parse the JSON object of the current request, which has no images, into a model.

    Raises `BadParameter`, `TooManyValues` or `RequestEntityTooLarge`.
    """
    request.max_content_length = _MAX_DOCUMENT_BYTES
    return JsonBody(request.get_data(cache=False)).parse(model)


class JsonBody:
    """A JSON body. Raises `TooManyValues` or `TooManyBytes` if it would cost too much to parse.

    For parsing, a stand-in replaces each long base64 text; it is longer than any other text may be. `text` returns the
    text itself.
    """

    def __init__(self, data: bytes) -> None:
        quotes = data.count(b'"')
        if quotes > 2 * _MAX_TEXTS:
            raise TooManyValues(f"The JSON has more than {_MAX_TEXTS} names and texts.")
        places = list(_long_texts(data)) if len(data) > _LONG_TEXT_BYTES else []
        self._texts = {f"{number:04096}": memoryview(data)[start:end] for number, (start, end) in enumerate(places)}
        self._json = self._without_long_texts(data, places).removeprefix(codecs.BOM_UTF8)  # which Windows writes
        self._check()

    def _without_long_texts(self, data: bytes, places: list[tuple[int, int]]) -> bytes:
        """Return the body with a stand-in for each long base64 text."""
        kept = len(data) - sum(end - start for start, end in places)
        if kept > _MAX_BYTES:
            raise TooManyBytes(f"The JSON has more than {_MAX_BYTES} bytes beside images in base64.")
        if not places:
            return data
        ends = [0, *(end for _, end in places)]
        starts = [*(start for start, _ in places), len(data)]
        between = [data[end:start] for end, start in zip(ends, starts, strict=True)]
        stand_ins = [*(name.encode() for name in self._texts), b""]
        return b"".join(part for pair in zip(between, stand_ins, strict=True) for part in pair)

    def _check(self) -> None:
        """Raise `TooManyValues` if there are too many; values are counted by the commas between them."""
        lists = self._json.count(b"[") + self._json.count(b"{")
        if self._json.count(b",") > _MAX_VALUES or lists > _MAX_LISTS:
            raise TooManyValues(
                f"The JSON has more than {_MAX_VALUES} values, or {_MAX_LISTS} lists. Send them as binary data."
            )

    def parse(self, model: type[M], others: Mapping[str, object] | None = None) -> M:
        """Parse the object into a model, with parameters from elsewhere. Raises `BadParameter`."""
        values = _values(self._json)
        if not isinstance(values, dict):
            raise BadParameter("body: it is not a JSON object.")
        return parse(model, {**values, **(others or {})})

    def text(self, text: str) -> bytes | memoryview | str:
        """Return the base64 text that a stand-in replaces, without JSON escapes; any other text as it is."""
        found = self._texts.get(text)
        if found is None:
            return text
        return _unescaped(found) if re.search(rb"\\", found) else found


def _values(text: bytes) -> object:
    """Parse JSON, with replacements for lone surrogates. Raises `BadParameter`.

    Lone surrogates occur in file names that are not UTF-8, and where a text was cut within an emoji.
    """
    try:
        return from_json(text)
    except ValueError as err:
        if _SURROGATE.search(text):
            with suppress(ValueError, RecursionError):
                return from_json(json.dumps(json.loads(text), ensure_ascii=False).encode(errors="replace"))
        if begins_like_image(text):
            raise BadParameter("body: it is an image, not JSON with an image in base64.") from err
        raise BadParameter(f"body: Invalid JSON: {err}") from err


def _unescaped(text: memoryview) -> bytes:
    """Return a text without JSON escapes, or unchanged if one is damaged."""
    unescaped = io.BytesIO()
    for piece in pieces(text, b"\\", _ESCAPE_BYTES):
        try:
            plain: str = from_json(b'"%b"' % piece)
        except ValueError:
            return bytes(text)  # which the decoder refuses for its backslashes
        unescaped.write(plain.encode())
    return unescaped.getvalue()


def _long_texts(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each long base64 text.

    The part between two texts of a JSON object or list never matches, since it contains a comma or a colon.
    """
    for before, end in pairwise(_quotes(data)):
        start = before + 1
        if end - start > _LONG_TEXT_BYTES:
            head = _URL_HEAD.match(data, start)
            text = memoryview(data)[head.end() if head else start : end]
            ends_here = not data.endswith(b"\\", start, end)  # else the quote is part of the text
            if ends_here and has_only(_IN_BASE64, text):
                yield start, end


def _quotes(data: bytes) -> Iterator[int]:
    place = data.find(b'"')
    while place >= 0:
        yield place
        place = data.find(b'"', place + 1)


def parse(model: type[M], values: Mapping[str, object]) -> M:
    """Parse parameters into a model. Raises `BadParameter`, which names the invalid ones."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as err:
        raise _bad_parameter(err) from err


def _bad_parameter(err: ValidationError) -> BadParameter:
    """Return the error, without names that a client made up: it also goes into a header and the log."""
    wrong = (f"{_place(each['loc'])}: {said(each)}" for each in err.errors(include_url=False, include_input=False)[:3])
    return BadParameter("; ".join(wrong))


def _place(location: tuple[int | str, ...]) -> str:
    names = (str(name) for name in location)
    return ".".join(name if _NAME.fullmatch(name) else "?" for name in names) or "body"
