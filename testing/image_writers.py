"""Writes PNG and GIF files of every kind, chunk by chunk, and the segments of JPEG files."""

import struct
import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

# The first column and row of each pass of an interlaced PNG, and the steps between them (PNG, 8.2).
_PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
# Samples per pixel by colour type.
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    """Return one chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_start(samples: NDArray[np.int_], depth: int, colour_type: int, interlaced: bool = False) -> bytes:
    """Return a PNG's signature and header."""
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)


def png_pixels(samples: NDArray[np.int_], depth: int, interlaced: bool = False) -> bytes:
    """Return the content of a PNG's pixels; `samples` is of shape (height, width, channels)."""
    passes = _PASSES if interlaced else [(0, 0, 1, 1)]
    parts = [samples[top::rows, left::columns] for left, top, columns, rows in passes]
    return zlib.compress(b"".join(b"\0" + _packed(row, depth) for part in parts if part.size for row in part))


def png(
    samples: NDArray[np.int_], depth: int = 8, colour_type: int = 2, interlaced: bool = False, chunks: bytes = b""
) -> bytes:
    """Return a PNG, with other chunks before its pixels."""
    pixels = chunk(b"IDAT", png_pixels(samples, depth, interlaced))
    return png_start(samples, depth, colour_type, interlaced) + chunks + pixels + chunk(b"IEND")


def _packed(row: NDArray[np.int_], depth: int) -> bytes:
    if depth >= 8:
        return row.astype(f">u{depth // 8}").tobytes()
    bits = (row.reshape(-1, 1) >> np.arange(depth)[::-1]) & 1
    return np.packbits(bits.astype(np.uint8)).tobytes()


def animated_png(
    hidden: NDArray[np.int_], shown: NDArray[np.int_], left: int, top: int, *, frames: int = 1, number: int = 0
) -> bytes:
    """Return a PNG of 8-bit colours whose picture is not part of its animation, which has one frame."""
    control = struct.pack(">5IHHBB", number, shown.shape[1], shown.shape[0], left, top, 1, 10, 0, 0)
    pixels = png_pixels(shown, 8)
    return (
        png_start(hidden, 8, 2)
        + chunk(b"acTL", struct.pack(">II", frames, 0))
        + chunk(b"IDAT", png_pixels(hidden, 8))
        + chunk(b"fcTL", control)
        + b"".join(chunk(b"fdAT", struct.pack(">I", number + 1 + i) + part) for i, part in enumerate(halves(pixels)))
        + chunk(b"IEND")
    )


def halves(content: bytes) -> tuple[bytes, bytes]:
    """Return content in two halves."""
    return content[: len(content) // 2], content[len(content) // 2 :]


def segment(marker: int, content: bytes = b"") -> bytes:
    """Return one segment of a JPEG file."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def sub_blocks(content: bytes) -> bytes:
    """Return content split into a GIF's sub-blocks."""
    blocks = (content[start : start + 255] for start in range(0, len(content), 255))
    return b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def gif_start(width: int, height: int, palette: NDArray[np.uint8]) -> bytes:
    """Return a GIF's header with a palette of 256 colours."""
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7, 0, 0) + palette.tobytes()


def gif_control(transparent: int | None) -> bytes:
    """Return the control block of a frame with or without a transparent colour."""
    return b"!\xf9\4" + struct.pack("<BHB", transparent is not None, 0, transparent or 0) + b"\0"


def gif_frame(indices: NDArray[np.int_], left: int = 0, top: int = 0, palette: bytes = b"") -> bytes:
    """Return a GIF frame with the colours of its palette, which may be its own."""
    height, width = indices.shape
    descriptor = struct.pack("<HHHHB", left, top, width, height, 0x87 if palette else 0)
    return b"," + descriptor + palette + b"\x08" + sub_blocks(_codes(indices.ravel().tolist()))


def _codes(values: Iterable[int]) -> bytes:
    """Return values as LZW codes of 9 bits, with the table cleared before it would need more."""
    clear, end = 256, 257
    codes = [code for place, value in enumerate(values) for code in ([clear] if place % 250 == 0 else []) + [value]]
    number = sum(code << 9 * place for place, code in enumerate([*codes, end]))
    return number.to_bytes((9 * len(codes) + 16) // 8, "little")
