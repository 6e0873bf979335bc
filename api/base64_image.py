"""Decodes images that travel as texts: in base64 as programs write it, alone or in a `data:` URL."""

import binascii
import re

from jobs.errors import BadParameter

_DATA_URL = re.compile(rb"\s*data:([^,]{0,200}),", re.IGNORECASE)
_BASE64 = re.compile(rb"[A-Za-z0-9+/\s]*(?:=\s*){0,2}")
# The alphabet that needs no escapes in URLs (RFC 4648, section 5).
_URL_SAFE, _FROM_URL_SAFE = re.compile(rb"[-_]"), bytes.maketrans(b"-_", b"+/")
# What a URL may have in place of a character of base64, or of white space.
_PERCENTS = {b"%%%02X" % character: bytes([character]) for character in b"+/=\r\n "}
_PERCENTS |= {percent.lower(): character for percent, character in _PERCENTS.items()}


def decode_base64(text: str | bytes | memoryview, place: str) -> bytes:
    """Return the image that a text is in base64, which may be in lines and without padding.

    Raises `BadParameter` with the place of the text. Of the usual alphabet, nothing is copied but the image, which may
    be half of all the memory that a request may take.
    """
    data = text.encode(errors="replace") if isinstance(text, str) else text
    url = _DATA_URL.match(data)
    if url and not url[1].lower().replace(b" ", b"").endswith(b";base64"):
        raise BadParameter(f"{place}: a data: URL has to be in base64.")
    if url:
        data = _without_percents(memoryview(data)[url.end() :])
    if _URL_SAFE.search(data):
        data = bytes(data).translate(_FROM_URL_SAFE)
    if not _BASE64.fullmatch(data):
        raise BadParameter(f"{place}: it has characters that are not base64. Send the file's bytes in base64.")
    try:
        return _decoded(data)
    except binascii.Error as err:
        raise BadParameter(f"{place}: it is no whole base64: its last character is too many, or too few.") from err


def _without_percents(data: memoryview) -> bytes | memoryview:
    """Return a text without the escapes of URLs; the decoder refuses others."""
    if not re.search(b"%", data):
        return data
    unescaped = bytes(data)
    for percent, character in _PERCENTS.items():
        unescaped = unescaped.replace(percent, character)
    return unescaped


def _decoded(data: bytes | memoryview) -> bytes:
    try:
        return binascii.a2b_base64(data)
    except binascii.Error:  # as it is without padding; where there is some, more does no harm
        return binascii.a2b_base64(b"".join((data, b"==")))
