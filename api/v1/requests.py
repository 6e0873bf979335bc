"""Reads a request for predictions: files of a form, raw image bytes, or base64 in JSON."""

import binascii
import hashlib
import json
import re
from base64 import b64decode
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from flask import request
from pydantic import BaseModel, ValidationError

from api.utils import MEDIA_TYPES, get_file_hash
from api.v1 import priority
from api.v1.documents import MAX_IMAGES, MAX_NAME, EncodedImages, Options
from api.views import SMALL_BYTES
from jobs import waiting
from jobs.errors import BadParameter, NoFile, TooManyImages, TooManyValues, UnsupportedMediaType
from jobs.schema import Lane
from jobs.validation import said

_IMAGE_TYPES = frozenset(MEDIA_TYPES.values())

# To read more would keep the interpreter from all else for long: lists cost ten times as much as numbers do.
_MAX_VALUES, _MAX_LISTS = 300_000, 100_000

_NAME = re.compile(r"[a-z_0-9]{1,20}")

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Upload:
    """An image as it came, and what its sender calls it."""

    filename: str | None
    data: bytes


@dataclass(frozen=True, slots=True)
class PredictionRequest:
    """Images and what is asked of them; whether their sender waits, whether all is kept, and where the jobs wait."""

    uploads: list[Upload]
    options: Options
    waits: bool
    keeps: bool
    lane: Lane

    def fingerprint(self) -> str:
        """Return a text that is the same for the same request, however its body was encoded."""
        images = [(upload.filename, get_file_hash(upload.data)) for upload in self.uploads]
        asked = json.dumps([images, self.options.model_dump(), self.waits])
        return hashlib.sha256(asked.encode()).hexdigest()


def read() -> PredictionRequest:
    """Return the current request. Raises `BadParameter`, `NoFile`, `TooManyImages` or `UnsupportedMediaType`."""
    if request.mimetype == "multipart/form-data":
        options = parse(Options, {**request.form, **request.args})
        uploads = _files()
    elif request.mimetype == "application/json":
        data = request.get_data(cache=False)
        encoded_images = _encoded_images if len(data) <= SMALL_BYTES else waiting.blocking(_encoded_images)
        options, uploads = encoded_images(data)
    elif request.mimetype in _IMAGE_TYPES:
        options = parse(Options, request.args)
        uploads = [Upload(None, request.get_data(cache=False))]
    else:
        raise UnsupportedMediaType
    waits = not _prefers_async()
    return PredictionRequest(
        uploads,
        Options(**options.model_dump(include=set(Options.model_fields))),
        waits=waits,
        keeps=not request.cache_control.no_store,
        lane=priority.lane(request.headers.getlist("Priority"), waits=waits),
    )


def _encoded_images(data: bytes) -> tuple[Options, list[Upload]]:
    encoded = parse_json(EncodedImages, data, request.args)
    return encoded, [Upload(_kept_name(image.filename), decode_base64(image.data)) for image in encoded.images]


def parse(model: type[M], values: Mapping[str, object]) -> M:
    """Return parameters as a model has them. Raises `BadParameter`, which names those that are wrong."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as err:
        raise _bad_parameter(err) from err


def parse_json(model: type[M], data: bytes, others: Mapping[str, object] | None = None) -> M:
    """Return a JSON object as a model has it, with parameters from elsewhere.

    Raises `BadParameter`, or `TooManyValues` where it would take too long to read. Between two values is a comma.
    """
    values, lists = data.count(b","), data.count(b"[") + data.count(b"{")
    if values > _MAX_VALUES or lists > _MAX_LISTS:
        raise TooManyValues(
            f"The JSON has more than {_MAX_VALUES} values, or {_MAX_LISTS} lists. Send them as binary data."
        )
    try:
        if not others:
            return model.model_validate_json(data)
        return model.model_validate({**json.loads(data), **others})
    except ValidationError as err:
        raise _bad_parameter(err) from err
    except (ValueError, TypeError, RecursionError) as err:
        raise BadParameter("The body is not a JSON object.") from err


def _bad_parameter(err: ValidationError) -> BadParameter:
    """Return the problem, which repeats no name that somebody made up: it also goes into a header and the log."""
    wrong = (f"{_place(each['loc'])}: {said(each)}" for each in err.errors(include_url=False)[:3])
    return BadParameter("; ".join(wrong))


def _place(location: tuple[int | str, ...]) -> str:
    names = (str(name) for name in location)
    return ".".join(name if _NAME.fullmatch(name) else "?" for name in names) or "body"


def _files() -> list[Upload]:
    files = request.files.getlist("file")
    if not files:
        raise NoFile
    if len(files) > MAX_IMAGES:
        raise TooManyImages(f"The form has {len(files)} files; at most {MAX_IMAGES} are accepted.")
    uploads = []
    for file in files:
        with closing(file):
            uploads.append(Upload(_kept_name(file.filename), file.read()))
    return uploads


def _kept_name(name: str | None) -> str | None:
    """Return as much of a file's name as is kept, which is in bytes what file systems take."""
    return (name or "").encode(errors="replace")[:MAX_NAME].decode(errors="ignore") or None


def decode_base64(data: str) -> bytes:
    """Return the image that a text stands for, which may be in lines, as `base64` writes it. Raises `BadParameter`."""
    try:
        return b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError) as err:
        raise BadParameter(f"An image is not in base64: {err}.") from err


def _prefers_async() -> bool:
    """Tell whether the client prefers not to wait (RFC 7240)."""
    preferences = ",".join(request.headers.getlist("Prefer")).split(",")
    return any(preference.partition(";")[0].strip().lower() == "respond-async" for preference in preferences)
