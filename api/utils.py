"""Checks an upload before anything is stored, and names it."""

import hashlib
from pathlib import PurePath

from api.image_structure import ImageLimits, image_format
from jobs.errors import NotAnImage

# The endings we accept, by the format of the content; the first is the one we give.
EXTENSIONS = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "GIF": (".gif",)}
MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"}


def allowed_file(filename: str) -> bool:
    """Tell whether a file's name ends like an image we accept, in upper or lower case."""
    return _extension(filename) in MEDIA_TYPES


def get_file_hash(data: bytes) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def image_name(data: bytes, filename: str, limits: ImageLimits) -> str:
    """Return the name to store an upload under: its hash, and the ending of its file's name where it fits the content.

    Decodes nothing. Raises `NotAnImage` or a kind of `TooLarge`.
    """
    if not data:
        raise NotAnImage("The file is empty.")
    extensions = EXTENSIONS[image_format(data, limits)]
    extension = _extension(filename)
    return get_file_hash(data) + (extension if extension in extensions else extensions[0])


def _extension(filename: str) -> str:
    return PurePath(filename).suffix.lower()
