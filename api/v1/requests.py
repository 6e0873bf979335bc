"""Reads a request for predictions: files of a form, raw image bytes, or base64 in JSON."""

import binascii
import hashlib
import json
import re
from binascii import a2b_base64
from contextlib import closing
from dataclasses import dataclass

from flask import request

from api.forms import FILE
from api.json_body import JsonBody, parse
from api.utils import MEDIA_TYPES, get_file_hash
from api.v1 import priority
from api.v1.documents import MAX_IMAGES, MAX_NAME, EncodedImages, Options
from api.views import SMALL_BYTES
from jobs import waiting
from jobs.errors import BadParameter, NoFile, TooManyImages, UnsupportedMediaType
from jobs.schema import Lane

_IMAGE_TYPES = frozenset(MEDIA_TYPES.values())
_BASE64 = re.compile(rb"[A-Za-z0-9+/\s]*(?:=\s*){0,2}")


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
    body = JsonBody(data)
    encoded = body.parse(EncodedImages, request.args)
    uploads = [Upload(_kept_name(image.filename), decode_base64(body.text(image.data))) for image in encoded.images]
    return encoded, uploads


def _files() -> list[Upload]:
    files = request.files.getlist(FILE)
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


def decode_base64(text: str | bytes | memoryview) -> bytes:
    """Return the image that a text stands for, which may be in lines, as `base64` writes it. Raises `BadParameter`.

    Nothing is copied but the image, which may be half of all the memory that a request may take.
    """
    data = text.encode(errors="replace") if isinstance(text, str) else text
    if not _BASE64.fullmatch(data):
        raise BadParameter("An image is not in base64: it has other characters.")
    try:
        return a2b_base64(data)
    except binascii.Error as err:
        raise BadParameter(f"An image is not in base64: {err}.") from err


def _prefers_async() -> bool:
    """Tell whether the client prefers not to wait (RFC 7240)."""
    preferences = ",".join(request.headers.getlist("Prefer")).split(",")
    return any(preference.partition(";")[0].strip().lower() == "respond-async" for preference in preferences)
