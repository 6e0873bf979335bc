"""Parses a request for predictions: files of a form, raw image bytes, or base64 in JSON."""

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from flask import request

from api.uploads.base64_image import decode_base64
from api.uploads.forms import FILE
from api.uploads.json_body import JsonBody, parse
from api.uploads.structure import begins_like_image
from api.utils import get_file_hash
from api.v1 import priority
from api.v1.documents import MAX_IMAGES, MAX_NAME, EncodedImages, Options
from api.views import SMALL_BYTES
from jobs.schema import Lane
from runtime import waiting
from runtime.errors import NoFile, TooManyImages, UnsupportedMediaType

# Media types under which clients send accepted images, including old names and those of any file.
_IMAGE_TYPE = re.compile(
    r"image/(x-|x-citrix-|vnd\.mozilla\.)?(p?jpe?g|jpe|jfif|pipeg|a?png|gif|\*)"
    r"|(application|binary)/(x-)?(octet-stream|binary|(force-)?download|jpe?g|png|gif)"
)
_FORM = "multipart/form-data"
_JSON_TYPE = re.compile(r"application/(.*\+)?json")
# What clients send if no type was given, as `curl --data-binary` does.
_NO_TYPES = frozenset({"", "*/*", "application/x-www-form-urlencoded"})


@dataclass(frozen=True, slots=True)
class Upload:
    """An image's bytes as received, and its file name."""

    filename: str | None
    data: bytes


@dataclass(frozen=True, slots=True)
class PredictionRequest:
    """A request's images and options, whether its sender waits, whether the result is kept, and the jobs' lane."""

    uploads: list[Upload]
    options: Options
    waits: bool
    keeps: bool
    lane: Lane

    def fingerprint(self) -> str:
        """Return a hash of the request that does not depend on how its body was encoded."""
        images = [(upload.filename, get_file_hash(upload.data)) for upload in self.uploads]
        asked = json.dumps([images, self.options.model_dump(), self.waits])
        return hashlib.sha256(asked.encode()).hexdigest()


def takes(media_type: str) -> bool:
    """Return whether a body of this media type may have images."""
    if media_type == _FORM or media_type in _NO_TYPES:
        return True
    return any(pattern.fullmatch(media_type) for pattern in (_JSON_TYPE, _IMAGE_TYPE))


def read() -> PredictionRequest:
    """Parse the current request. Raises `BadParameter`, `NoFile`, `TooManyImages` or `UnsupportedMediaType`."""
    if not takes(request.mimetype):
        raise UnsupportedMediaType
    if request.mimetype == _FORM:
        options = parse(Options, {**_given(request.form), **request.args})
        uploads = _files()
    elif request.is_json:
        data = request.get_data(cache=False)
        encoded_images = _encoded_images if len(data) <= SMALL_BYTES else waiting.blocking(_encoded_images)
        options, uploads = encoded_images(data)
    else:
        options = parse(Options, request.args)
        uploads = [_image()]
    waits = not _prefers_async()
    return PredictionRequest(
        uploads,
        Options(**options.model_dump(include=set(Options.model_fields))),
        waits=waits,
        keeps=not request.cache_control.no_store,
        lane=priority.lane(request.headers.getlist("Priority"), waits=waits),
    )


def _given(fields: Mapping[str, str]) -> Mapping[str, str]:
    """Return the fields of a form that are not blank: a person leaves a field empty, a program leaves it out."""
    return {name: text for name, text in fields.items() if text.strip()}


def _encoded_images(data: bytes) -> tuple[Options, list[Upload]]:
    body = JsonBody(data)
    encoded = body.parse(EncodedImages, request.args)
    data_of = (decode_base64(body.text(each.data), f"images.{n}.data") for n, each in enumerate(encoded.images))
    return encoded, [
        Upload(_kept_name(each.filename), data) for each, data in zip(encoded.images, data_of, strict=True)
    ]


def _image() -> Upload:
    """Return the body as an image."""
    data = request.get_data(cache=False)
    if request.mimetype in _NO_TYPES and not begins_like_image(data):
        raise UnsupportedMediaType
    return Upload(None, data)


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
    """Return a file's name, cut to the length in bytes that file systems allow."""
    return (name or "").encode(errors="replace")[:MAX_NAME].decode(errors="ignore") or None


def _prefers_async() -> bool:
    """Return whether the client prefers not to wait (RFC 7240)."""
    preferences = ",".join(request.headers.getlist("Prefer")).split(",")
    return any(preference.partition(";")[0].strip().lower() == "respond-async" for preference in preferences)
