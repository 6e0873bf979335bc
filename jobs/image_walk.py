"""Iterates over the parts of a PNG, JPEG or GIF file: its chunks, segments or blocks. It decodes nothing.

The API counts the parts before it accepts a file (api/uploads/structure.py), and a worker gives its decoder only the
parts that the pixels need (model/bare_picture.py). Both use this iterator, so both see the same parts. It stops at a
part that browsers refuse; anything after that is not part of the picture.
"""

import re
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple

from runtime.errors import TooFragmented

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
GIF_SIGNATURES = (b"GIF87a", b"GIF89a")

JPEG_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
JPEG_END, JPEG_SCAN = 0xD9, 0xDA
JPEG_TABLES = {0xC4, 0xCC, 0xDB, 0xDD}
JPEG_METADATA = {*range(0xE0, 0xF0), 0xFE}
# A number of lines, which decoders skip.
_JPEG_LINES = 0xDC
_JPEG_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_JPEG_WITH_LENGTH = JPEG_SIZES | JPEG_TABLES | JPEG_METADATA | {JPEG_SCAN, _JPEG_LINES}
_JPEG_TEMPORARY = 0x01
_JPEG_ALONE = {_JPEG_TEMPORARY, JPEG_END}
_JPEG_KNOWN = _JPEG_WITH_LENGTH | _JPEG_ALONE
# Bytes that a decoder treats as a marker: no stuffed zero, no filling byte, no restart within a scan.
_JPEG_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_ALL_COEFFICIENTS = (1 << 64) - 1

GIF_FRAME, GIF_GRAPHIC_CONTROL, _GIF_END = b",", b"!\xf9", b";"
_GIF_INTRODUCER = re.compile(rb"[!,;]")
GIF_HEADER_BYTES, GIF_DESCRIPTOR_BYTES = 13, 10


class Chunk(NamedTuple):
    """A chunk of a PNG file: its type, and the start and end of its content. Its checksum follows."""

    kind: bytes
    content: int
    end: int


class Segment(NamedTuple):
    """A segment of a JPEG file: its marker, and the positions of the marker, its content and its end.

    The `skipped` bytes before it belong to no segment.
    """

    marker: int
    start: int
    content: int
    end: int
    skipped: int


class JpegScans:
    """Tracks whether a JPEG's scans have the last bit of every coefficient of every component (ITU-T T.81, B.2)."""

    def __init__(self) -> None:
        self._is_progressive = False
        self._missing: dict[int, int] = {}

    @property
    def are_complete(self) -> bool:
        """Whether the picture needs no more scans."""
        return bool(self._missing) and not any(self._missing.values())

    def add(self, data: bytes, marker: int, content: int) -> None:
        """Record a segment."""
        if marker in JPEG_SIZES:
            components = data[content + 8 : content + 8 + 3 * _byte(data, content + 7) : 3]
            self._missing = dict.fromkeys(components, _ALL_COEFFICIENTS)
            self._is_progressive = marker in _JPEG_PROGRESSIVE
        elif marker == JPEG_SCAN:
            selection = content + 3 + 2 * _byte(data, content + 2)
            found = self._found(data[selection : selection + 3])
            for component in data[content + 3 : selection : 2]:
                self._missing[component] = self._missing.get(component, 0) & ~found

    def _found(self, selection: bytes) -> int:
        if not self._is_progressive:
            return _ALL_COEFFICIENTS
        first, last, bit_positions = selection.ljust(3, b"\xff")
        return 0 if bit_positions & 15 or first > last else (2 << last) - (1 << first)


def _byte(data: bytes, position: int) -> int:
    return int.from_bytes(data[position : position + 1], "big")


class Block(NamedTuple):
    """A frame or an extension of a GIF file: its first bytes, and the positions of it, its sub-blocks and its end.

    `kind` is `GIF_FRAME`, or has the extension's label. The `skipped` bytes before it belong to no block.
    """

    kind: bytes
    start: int
    content: int
    end: int
    sub_blocks: int
    skipped: int


def png_chunks(data: bytes) -> Iterator[Chunk]:
    """Yield a PNG file's chunks; the last one may be cut short."""
    position, kind = len(PNG_SIGNATURE), b""
    while kind != b"IEND" and position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        content = position + 8
        yield Chunk(kind, content, min(content + length, len(data)))
        position = content + length + 4


def jpeg_segments(data: bytes) -> Iterator[Segment]:
    """Yield a JPEG file's whole segments up to the end of its picture; a scan's segment includes its pixels.

    Once the scans are complete, only metadata and the end marker still belong to the picture.
    """
    position, scans, picture = 2, 0, JpegScans()
    while match := _JPEG_MARKER.search(data, position):
        marker, start, content = match[1][0], match.start(), match.end()
        skipped = start - position
        if marker not in _JPEG_KNOWN or (marker == _JPEG_TEMPORARY and scans):
            return
        position = content + _jpeg_length(data, marker, content)
        if position > len(data) or (picture.are_complete and marker not in JPEG_METADATA | {JPEG_END}):
            return
        picture.add(data, marker, content)
        if marker == JPEG_SCAN:
            scans += 1
            following = _JPEG_MARKER.search(data, position)
            position = following.start() if following else len(data)
        yield Segment(marker, start, content, position, skipped)
        if marker == JPEG_END and scans:
            return


def _jpeg_length(data: bytes, marker: int, content: int) -> int:
    """Return the number of bytes that belong to a marker, the length field included."""
    return 0 if marker in _JPEG_ALONE else max(2, int.from_bytes(data[content : content + 2], "big"))


def gif_blocks(data: bytes, most_sub_blocks: int = sys.maxsize) -> Iterator[Block]:
    """Yield a GIF file's blocks; the last one may be cut short.

    Raises `TooFragmented` if they have more than `most_sub_blocks` sub-blocks.
    """
    position = GIF_HEADER_BYTES + gif_palette_bytes(data, 10)
    while (match := _GIF_INTRODUCER.search(data, position)) and match[0] != _GIF_END:
        start, skipped = match.start(), match.start() - position
        if match[0] == GIF_FRAME:
            kind, content = GIF_FRAME, start + GIF_DESCRIPTOR_BYTES + gif_palette_bytes(data, start + 9) + 1
        else:
            kind, content = data[start : start + 2], start + 2
        if content > len(data) or (kind == GIF_GRAPHIC_CONTROL and data[content : content + 1] != b"\4"):
            return
        position, sub_blocks = _after_sub_blocks(data, content, most_sub_blocks)
        most_sub_blocks -= sub_blocks
        yield Block(kind, start, content, position, sub_blocks, skipped)


def gif_palette_bytes(data: bytes, flags: int) -> int:
    """Return the size of the palette that the byte at `flags` announces."""
    packed = data[flags] if flags < len(data) else 0
    return 3 << (packed & 7) + 1 if packed & 0x80 else 0


def _after_sub_blocks(data: bytes, position: int, most: int) -> tuple[int, int]:
    """Return the position after a list of sub-blocks, which ends with an empty one, and their number."""
    count = 0
    try:
        while size := data[position]:
            count += 1
            if count > most:
                raise TooFragmented
            position += size + 1
    except IndexError:
        return len(data), count
    return position + 1, count
