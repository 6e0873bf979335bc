"""Decodes images from base64 text, alone or in a `data:` URL."""

import binascii
import io
import re
import string
from collections.abc import Iterator

from runtime.errors import BadParameter

_DATA_URL = re.compile(rb"\s*data:([^,]{0,200}),", re.IGNORECASE)
_ALPHABET = (string.ascii_letters + string.digits + string.whitespace + "+/=").encode()
# The URL-safe alphabet (RFC 4648, section 5).
_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_PADDING = re.compile(rb"(?:=\s*){0,2}")
_PIECE_BYTES = 65_536
# Percent-encoded characters of base64, and of white space.
_PERCENTS = {b"%%%02X" % character: bytes([character]) for character in b"+/=\r\n "}
_PERCENT_BYTES = 3
_PERCENTS |= {percent.lower(): character for percent, character in _PERCENTS.items()}


def decode_base64(text: str | bytes | memoryview, place: str) -> bytes:
    """Decode an image from base64, which may be in lines and without padding.

    Raises `BadParameter` with the place of the text. With the standard alphabet, only the decoded image is copied: the
    text may be half of all the memory that a request may take.
    """
    data = text.encode(errors="replace") if isinstance(text, str) else text
    del text  # so that memory does not hold it beside its converted copies
    url = _DATA_URL.match(data)
    if url and not url[1].lower().replace(b" ", b"").endswith(b";base64"):
        raise BadParameter(f"{place}: a data: URL has to be in base64.")
    if url:
        data = _without_percents(memoryview(data)[url.end() :])
        del url
    if not has_only(_ALPHABET, data):
        data = _from_url_safe(data, place)
    padding = re.search(b"=", data)
    if padding and not _PADDING.fullmatch(data, padding.start()):
        raise _not_base64(place)
    try:
        return _decoded(data)
    except binascii.Error as err:
        raise BadParameter(f"{place}: it is no whole base64: its last character is too many, or too few.") from err


def _from_url_safe(data: bytes | memoryview, place: str) -> bytes:
    if not has_only(_ALPHABET + b"-_", data):
        raise _not_base64(place)
    return bytes(data).translate(_FROM_URL_SAFE)


def _not_base64(place: str) -> BadParameter:
    return BadParameter(f"{place}: it has characters that are not base64. Send the file's bytes in base64.")


def has_only(characters: bytes, data: bytes | memoryview) -> bool:
    """Return whether data contain only these characters.

    They are checked in pieces: a regular expression takes longer, and holds the interpreter until it is done.
    """
    pieces = (bytes(data[start : start + _PIECE_BYTES]) for start in range(0, len(data), _PIECE_BYTES))
    return not any(piece.translate(None, characters) for piece in pieces)


def _without_percents(data: memoryview) -> bytes | memoryview:
    """Decode the percent escapes that base64 may have in URLs; the decoder refuses any others."""
    if not re.search(b"%", data):
        return data
    unescaped = io.BytesIO()
    for piece in pieces(data, b"%", _PERCENT_BYTES):
        for percent, character in _PERCENTS.items():
            piece = piece.replace(percent, character)
        unescaped.write(piece)
    return unescaped.getvalue()


def pieces(text: memoryview, mark: bytes, length: int) -> Iterator[bytes]:
    """Yield a text in pieces, without copying it whole.

    No piece ends within an escape, which begins with `mark` and has up to `length` bytes.
    """
    start = 0
    while start < len(text):
        piece = bytes(text[start : start + _PIECE_BYTES])
        torn = piece.rfind(mark, len(piece) - length + 1)
        if torn > 0 and start + len(piece) < len(text):
            piece = piece[:torn]
        yield piece
        start += len(piece)


def _decoded(data: bytes | memoryview) -> bytes:
    try:
        return binascii.a2b_base64(data)
    except binascii.Error:  # the padding may be missing; if it is not, more does no harm
        return binascii.a2b_base64(b"".join((data, b"==")))
