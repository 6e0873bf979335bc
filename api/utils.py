"""Checks an upload before anything is stored, and names it."""

import hashlib
import io
from pathlib import PurePath

from PIL import Image, UnidentifiedImageError

from jobs.errors import NotAnImage, TooLarge, UnsupportedFile

# The endings we accept, by the format that Pillow recognises in the content; the first is the one we give.
EXTENSIONS = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "GIF": (".gif",)}
MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"}


def allowed_file(filename: str) -> bool:
    """Tell whether a file's name ends like an image we accept, in upper or lower case."""
    return _extension(filename) in MEDIA_TYPES


def get_file_hash(data: bytes) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def image_name(data: bytes, filename: str, max_pixels: int) -> str:
    """Return the name to store an upload under: its hash, and the ending that fits its content.

    Reads the header only. Raises `UnsupportedFile`, `NotAnImage` or `TooLarge`.
    """
    if not allowed_file(filename):
        raise UnsupportedFile
    image_format, (width, height) = _read_header(data)
    if width * height > max_pixels:
        raise TooLarge(f"The image has {width} x {height} pixels; at most {max_pixels} are accepted.")
    extension = _extension(filename)
    if extension not in EXTENSIONS[image_format]:
        extension = EXTENSIONS[image_format][0]
    return get_file_hash(data) + extension


def _extension(filename: str) -> str:
    return PurePath(filename).suffix.lower()


def _read_header(data: bytes) -> tuple[str, tuple[int, int]]:
    if not data:
        raise NotAnImage("The file is empty.")
    try:
        with Image.open(io.BytesIO(data), formats=list(EXTENSIONS)) as image:
            return str(image.format), image.size
    except Image.DecompressionBombError as err:
        raise TooLarge from err
    # Pillow's parsers raise these for damaged headers.
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, OverflowError) as err:
        raise NotAnImage from err
