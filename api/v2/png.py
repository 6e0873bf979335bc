"""Writes pixels as PNG files, so that they are handled like any other image."""

import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EIGHT_BITS_RGB = b"\x08\x02\0\0\0"
_NO_FILTER = b"\0"
# Bytes of rows written at a time, the only memory needed beside the file.
_PIECE_BYTES = 65_536
CHANNELS = 3


def encode_png(pixels: bytes | memoryview, width: int, height: int) -> bytes:
    """Return a PNG file of `height` x `width` x RGB bytes.

    Nothing is compressed: that would take longer than all else that the API does with an image. The file is written in
    pieces, so that memory holds it once.
    """
    file = io.BytesIO()
    file.write(_SIGNATURE)
    _write_chunk(file, b"IHDR", [struct.pack(">II", width, height) + _EIGHT_BITS_RGB])
    _write_chunk(file, b"IDAT", _stored(_pieces(memoryview(pixels), CHANNELS * width)))
    _write_chunk(file, b"IEND", [])
    return file.getvalue()


def _pieces(pixels: memoryview, row_bytes: int) -> Iterator[bytes]:
    """Yield some rows at a time, each preceded by its filter type."""
    step = row_bytes * max(1, _PIECE_BYTES // row_bytes)
    for start in range(0, len(pixels), step):
        rows = range(start, min(start + step, len(pixels)), row_bytes)
        yield b"".join(part for row in rows for part in (_NO_FILTER, pixels[row : row + row_bytes]))


def _stored(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield a zlib stream that stores the pieces uncompressed."""
    stream = zlib.compressobj(level=0)
    yield from map(stream.compress, pieces)
    yield stream.flush()


def _write_chunk(file: io.BytesIO, kind: bytes, pieces: Iterable[bytes]) -> None:
    """Write a chunk, and fill in its length at the end."""
    start, checksum = file.tell(), 0
    file.write(bytes(4))
    for piece in chain([kind], pieces):
        checksum = zlib.crc32(piece, checksum)
        file.write(piece)
    file.write(struct.pack(">I", checksum))
    end = file.tell()
    file.seek(start)
    file.write(struct.pack(">I", end - start - 12))
    file.seek(end)
