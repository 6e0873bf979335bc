"""Walks through an image file without decoding it, and refuses what would cost too much to decode.

A few megabytes can keep a decoder busy for half an hour: a JPEG of 100,000 scans over the same picture, a PNG of 10,000
colour profiles. The walk takes microseconds for a photo, and bounds the time and memory of all that comes after it.
"""

import re
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from jobs.errors import NotAnImage, TooFragmented, TooManyFrames, TooManyPixels, TooManyScans, TooMuchMetadata

# JPEG and GIF have no larger sides. A PNG of one column costs a decoder 20 bytes of memory a row.
_MAX_SIDE = 65_535
# Encoders write about ten. In each, a decoder passes over the whole picture, in 20 ms or more if it has 50 megapixels.
_MAX_SCANS = 100
# A decoder takes pieces (chunks, segments, sub-blocks) one by one, in some microseconds each: beyond so many, they must
# have so many bytes on average. Those of metadata may be costlier, such as 2 ms for a colour profile of 1 KB.
_PIECES, _MIN_PIECE_BYTES = 10_000, 128
_METADATA_PIECES, _MIN_METADATA_PIECE_BYTES = 64, 32_768

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_PICTURE = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"}

# What a decoder takes for a marker: no stuffed zero, no filling byte, no restart within a scan.
_JPEG_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_JPEG_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_END, _JPEG_SCAN = 0xD9, 0xDA
_JPEG_WITHOUT_LENGTH = {*range(0x01, 0xC0), 0xD8, _JPEG_END}
_JPEG_METADATA = {*range(0xE0, 0xF0), 0xFE}

_GIF_EXTENSION, _GIF_IMAGE, _GIF_END = 0x21, 0x2C, 0x3B
_GIF_GRAPHIC_CONTROL = 0xF9


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """How much of each an image may have."""

    pixels: int
    frames: int
    metadata_bytes: int

    def check_size(self, width: int, height: int) -> None:
        """Raise `TooManyPixels` where a picture of this size has more than it may."""
        if width * height > self.pixels:
            raise TooManyPixels(
                f"The image has {width} x {height} pixels; at most {self.pixels} are accepted. Make it smaller."
            )
        if max(width, height) > _MAX_SIDE:
            raise TooManyPixels(f"The image has {width} x {height} pixels; at most {_MAX_SIDE} a side are accepted.")


def image_format(data: bytes, limits: ImageLimits) -> str:
    """Return "PNG", "JPEG" or "GIF". Raises `NotAnImage`, or the `TooLarge` that says what there is too much of.

    What the walk does not see, such as damaged pixels, is for the decoder to find.
    """
    tally = _Tally(len(data), limits)
    for signature, (name, walk) in _WALKS.items():
        if data.startswith(signature):
            with suppress(struct.error, IndexError):  # the file is cut short
                walk(data, tally)
            if tally.has_picture:
                return name
    raise NotAnImage


def begins_like_image(data: bytes) -> bool:
    """Tell whether bytes begin as an image file does."""
    return data.startswith(tuple(_WALKS))


class _Tally:
    """Counts what is found, and raises the error of what is too much."""

    def __init__(self, file_bytes: int, limits: ImageLimits) -> None:
        self._limits = limits
        self.has_picture = False
        self.frames = 0
        self.scans = 0
        self.pieces_left = _PIECES + file_bytes // _MIN_PIECE_BYTES
        self._metadata_pieces_left = _METADATA_PIECES + limits.metadata_bytes // _MIN_METADATA_PIECE_BYTES
        self._metadata_bytes = 0

    def picture(self, width: int, height: int) -> None:
        if not width or not height:
            raise NotAnImage("The image has no pixels.")
        self._limits.check_size(width, height)
        self.has_picture = True

    def frame(self) -> None:
        self.frames += 1
        if self.frames > self._limits.frames:
            raise TooManyFrames(f"The animation has more than {self._limits.frames} frames. Send one of them.")

    def scan(self) -> None:
        self.scans += 1
        if self.scans > _MAX_SCANS:
            raise TooManyScans

    def pieces(self, count: int) -> None:
        self.pieces_left -= count
        if self.pieces_left < 0:
            raise TooFragmented

    def metadata(self, size: int) -> None:
        self._metadata_pieces_left -= 1
        self._metadata_bytes += size
        if self._metadata_bytes > self._limits.metadata_bytes:
            raise TooMuchMetadata(
                f"The image has more than {self._limits.metadata_bytes} bytes of metadata. Remove them."
            )
        if self._metadata_pieces_left < 0:
            raise TooMuchMetadata


def _walk_png(data: bytes, tally: _Tally) -> None:
    position = len(_PNG_SIGNATURE)
    while True:
        length, kind = struct.unpack_from(">I4s", data, position)
        tally.pieces(1)
        if kind == b"IHDR":
            tally.picture(*struct.unpack_from(">II", data, position + 8))
        elif kind == b"fcTL":
            tally.frame()
        elif kind == b"IEND":
            return
        elif kind not in _PNG_PICTURE:
            tally.metadata(min(length, len(data) - position))
        position += length + 12


def _walk_jpeg(data: bytes, tally: _Tally) -> None:
    position = 0
    while match := _JPEG_MARKER.search(data, position):
        marker = match[1][0]
        # Before the first scan, each byte that belongs to nothing costs a decoder as much as a segment.
        tally.pieces(1 + (match.start() - position if not tally.scans else 0))
        position = match.end()
        if marker == _JPEG_END and tally.scans:  # an earlier end does not end Pillow's search for the picture
            return
        if marker not in _JPEG_WITHOUT_LENGTH:
            position += _walk_segment(data, marker, position, tally)


def _walk_segment(data: bytes, marker: int, position: int, tally: _Tally) -> int:
    """Return the segment's length."""
    (length,) = struct.unpack_from(">H", data, position)
    if marker in _JPEG_SIZES:
        height, width = struct.unpack_from(">HH", data, position + 3)
        tally.picture(width, height)
    elif marker == _JPEG_SCAN:
        tally.scan()
    elif marker in _JPEG_METADATA:
        tally.metadata(length)
    return max(int(length), 2)


def _walk_gif(data: bytes, tally: _Tally) -> None:
    screen_width, screen_height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + _gif_palette_bytes(flags)
    while data[position] != _GIF_END:
        tally.pieces(1)
        if data[position] == _GIF_IMAGE:
            left, top, width, height, flags = struct.unpack_from("<HHHHB", data, position + 1)
            if not tally.frames:  # decoders make room for a first frame beyond the screen
                tally.picture(max(screen_width, left + width), max(screen_height, top + height))
            tally.frame()
            position = _after_sub_blocks(data, position + 11 + _gif_palette_bytes(flags), tally)
        elif data[position] == _GIF_EXTENSION:
            start, position = position, _after_sub_blocks(data, position + 2, tally)
            if not tally.frames and data[start + 1] != _GIF_GRAPHIC_CONTROL:  # what follows the first frame is not read
                tally.metadata(position - start)
        else:
            position += 1


def _gif_palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_sub_blocks(data: bytes, position: int, tally: _Tally) -> int:
    """Return the position after a list of sub-blocks, which an empty one ends."""
    for count in range(tally.pieces_left + 1):
        if not data[position]:
            tally.pieces(count)
            return position + 1
        position += data[position] + 1
    raise TooFragmented


# By what a file begins with.
_WALKS: dict[bytes, tuple[str, Callable[[bytes, _Tally], None]]] = {
    _PNG_SIGNATURE: ("PNG", _walk_png),
    b"\xff\xd8\xff": ("JPEG", _walk_jpeg),
    b"GIF87a": ("GIF", _walk_gif),
    b"GIF89a": ("GIF", _walk_gif),
}
