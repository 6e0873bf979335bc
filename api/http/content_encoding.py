"""Decompresses request bodies, up to a size limit."""

import io
import zlib
from collections.abc import Iterator
from itertools import chain
from typing import IO

from runtime.errors import BadEncoding, TooManyBytes, UnsupportedEncoding

# Supported content codings (RFC 9110, section 8.4.1).
SUPPORTED = ("gzip", "deflate")
_SAME = {"x-gzip": "gzip"}
_NONE = {"", "identity"}
# Bytes read, and bytes decoded, at a time.
_PIECE_BYTES = 65_536
# The `wbits` of zlib for each format: gzip, zlib, and raw deflate, which some clients send as `deflate`.
_GZIP, _ZLIB, _RAW = 31, 15, -15


def coding_of(header: str) -> str | None:
    """Return the coding that the header `Content-Encoding` names, if any. Raises `UnsupportedEncoding`."""
    names = (name.strip().lower() for name in header.split(","))
    match [_SAME.get(name, name) for name in names if name not in _NONE]:
        case []:
            return None
        case [coding] if coding in SUPPORTED:
            return coding
    raise UnsupportedEncoding


def decode(body: IO[bytes], coding: str, max_bytes: int) -> io.BytesIO:
    """Return a decompressed body.

    Raises `TooManyBytes` as soon as it exceeds `max_bytes`, or `BadEncoding`.
    """
    decoded = io.BytesIO()
    try:
        for piece in _inflated(body, coding):
            decoded.write(piece)
            if decoded.tell() > max_bytes:
                raise TooManyBytes(f"At most {max_bytes} bytes are accepted, counted as they are decompressed.")
    except zlib.error as err:
        raise BadEncoding(f"The body is damaged, or not {coding} as its Content-Encoding says.") from err
    return io.BytesIO(decoded.getvalue())  # at its start, and without spare capacity


def _inflated(body: IO[bytes], coding: str) -> Iterator[bytes]:
    """Yield a body's decompressed content in small pieces. Raises `BadEncoding` or `zlib.error`."""
    start = body.read(_PIECE_BYTES)
    if not start:
        return
    inflater = zlib.decompressobj(_GZIP if coding == "gzip" else _ZLIB if _begins_as_zlib(start) else _RAW)
    for piece in chain([start], iter(lambda: body.read(_PIECE_BYTES), b""), [b""]):
        rest = piece
        while inflated := inflater.decompress(rest, _PIECE_BYTES):
            yield inflated
            rest = inflater.unconsumed_tail
        if inflater.unused_data:
            raise BadEncoding(f"The body has more behind its end in {coding}. Compress it as one.")
    if not inflater.eof:
        raise BadEncoding(f"The body ends before its end in {coding}.")


def _begins_as_zlib(data: bytes) -> bool:
    """Return whether data begin with zlib's two-byte header (RFC 1950): the method deflate, and a checksum."""
    return data[0] & 0x0F == zlib.DEFLATED and int.from_bytes(data[:2], "big") % 31 == 0
