"""Writes PNG, JPEG and GIF files piece by piece, as no image library would."""

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:  # Pillow's differ by format
    """Return an image as a file that Pillow writes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    """Return one chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_header(width: int, height: int, depth: int = 8, colour_type: int = 2, interlaced: int = 0) -> bytes:
    """Return a PNG file's signature and first chunk."""
    return PNG_SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlaced))


def png(width: int, height: int, bits: int = 24, *, chunks: bytes = b"", **header: int) -> bytes:
    """Return a black PNG of `bits` per pixel, with other chunks before its pixels."""
    rows = bytes((1 + (width * bits + 7) // 8) * height)
    return png_header(width, height, **header) + chunks + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND")


def with_right_checksums(data: bytes) -> bytes:
    """Return a PNG's bytes with corrected checksums; other bytes unchanged."""
    fixed, position = bytearray(data), len(PNG_SIGNATURE)
    while data.startswith(PNG_SIGNATURE) and position + 12 <= len(fixed):
        end = position + 8 + int.from_bytes(fixed[position : position + 4], "big")
        if end + 4 > len(fixed):
            break
        fixed[end : end + 4] = zlib.crc32(fixed[position + 4 : end]).to_bytes(4, "big")
        position = end + 4
    return bytes(fixed)


def segment(marker: int, content: bytes = b"") -> bytes:
    """Return one segment of a JPEG file; content that does not fit is cut off."""
    content = content[:65_533]
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def sub_blocks(content: bytes, size: int = 255) -> bytes:
    """Return content as a GIF's sub-blocks of `size` bytes."""
    blocks = (content[start : start + size] for start in range(0, len(content), size))
    return b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def tiff(entries: Sequence[tuple[int, int, int, int]], rest: bytes = b"") -> bytes:
    """Return EXIF data of entries (tag, type, count, value or offset)."""
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory + bytes(4) + rest
