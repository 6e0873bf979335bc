"""Writes pixels as a PNG file, so that they travel as every other image does."""

import struct
import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EIGHT_BITS_RGB = b"\x08\x02\0\0\0"
_NO_FILTER = b"\0"
CHANNELS = 3


def encode_png(pixels: bytes | memoryview, width: int, height: int) -> bytes:
    """Return a PNG file of `height` x `width` x RGB bytes.

    Nothing is compressed: that would take longer than all else that the API does with an image.
    """
    row_bytes = CHANNELS * width
    rows = (pixels[start : start + row_bytes] for start in range(0, row_bytes * height, row_bytes))
    picture = zlib.compress(b"".join(part for row in rows for part in (_NO_FILTER, row)), level=0)
    header = struct.pack(">II", width, height) + _EIGHT_BITS_RGB
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", picture) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
