"""Checks uploads before they are stored, and names them."""

import hashlib
import mimetypes
from pathlib import PurePath

from api.uploads.structure import ImageLimits, image_format
from runtime.errors import NotAnImage

# Accepted file extensions by content format; the first is the one we assign.
EXTENSIONS = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "GIF": (".gif",)}
MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"}
# Extensions of other kinds of files: those that Python knows, and other common ones.
_MORE_ENDINGS = """
    .7z .apk .arw .avif .cc .cfg .class .cmd .conf .cpp .cr2 .cs .db .deb .dmg .dng .docm .docx .epub .flac .go .heic
    .ini .ipynb .iso .jar .java .jxl .kt .lnk .log .m4a .m4v .md .mkv .msi .nef .npy .numbers .odp .ods .odt .ogg
    .onnx .otf .pages .parquet .php .pkl .pptm .pptx .ps1 .psd .pt .pth .rar .rb .rpm .rs .rst .safetensors .scr .scss
    .sql .sqlite .swift .tgz .toml .ts .ttf .vbs .webp .wma .wmv .woff .xlsm .xlsx .yaml .yml .zst
"""
_KNOWN = mimetypes.MimeTypes()  # without the tables of the machine
_OTHER_ENDINGS = {
    *_KNOWN.types_map[False],
    *_KNOWN.types_map[True],
    *_KNOWN.encodings_map,
    *_MORE_ENDINGS.split(),
} - {*MEDIA_TYPES, ".apng", ".bin", ".jfif", ".jpe"}


def allowed_file(filename: str) -> bool:
    """Return whether a file's name has the extension of an accepted image, in upper or lower case."""
    return _extension(filename) in MEDIA_TYPES


def is_other_file(filename: str) -> bool:
    """Return whether a file's name has the extension of another kind of file; a name without one may be an image's."""
    return not allowed_file(filename) and _extension(filename.rstrip(" .\"'\t\r\n")) in _OTHER_ENDINGS


def get_file_hash(data: bytes) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def image_name(data: bytes, filename: str, limits: ImageLimits) -> str:
    """Return the name to store an upload under: its hash, and its file's extension if that matches the content.

    Decodes nothing. Raises `NotAnImage` or a kind of `TooLarge`.
    """
    if not data:
        raise NotAnImage("The file is empty.")
    extensions = EXTENSIONS[image_format(data, limits)]
    extension = _extension(filename)
    return get_file_hash(data) + (extension if extension in extensions else extensions[0])


def _extension(filename: str) -> str:
    return PurePath(filename).suffix.lower()
