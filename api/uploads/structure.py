"""Checks the structure of an image file without decoding it, and refuses one that would cost too much to decode.

A few megabytes can keep a decoder busy for half an hour: a JPEG of 100,000 scans over the same picture, a PNG of 10,000
colour profiles. The walk takes microseconds for a photo, and bounds the time and memory of all that comes after it.
"""

import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from jobs.image_walk import (
    GIF_FRAME,
    GIF_GRAPHIC_CONTROL,
    GIF_SIGNATURES,
    JPEG_METADATA,
    JPEG_SCAN,
    JPEG_SIGNATURE,
    JPEG_SIZES,
    PNG_SIGNATURE,
    gif_blocks,
    jpeg_segments,
    png_chunks,
)
from runtime.errors import NotAnImage, TooFragmented, TooManyFrames, TooManyPixels, TooManyScans, TooMuchMetadata

# JPEG and GIF have no larger sides. A PNG of one column costs a decoder 20 bytes of memory a row.
_MAX_SIDE = 65_535
# Encoders write about ten. For each, a decoder passes over the whole picture, in 20 ms or more at 50 megapixels.
_MAX_SCANS = 100
# A decoder handles pieces (chunks, segments, sub-blocks) one by one, in some microseconds each: beyond this number,
# they must have this many bytes on average. Metadata may cost more, such as 2 ms for a colour profile of 1 KB.
_PIECES, _MIN_PIECE_BYTES = 10_000, 128
_METADATA_PIECES, _MIN_METADATA_PIECE_BYTES = 64, 32_768

_PNG_PICTURE = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"}


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Limits on an image's pixels, frames and metadata."""

    pixels: int
    frames: int
    metadata_bytes: int

    def check_size(self, width: int, height: int) -> None:
        """Raise `TooManyPixels` if a picture of this size exceeds the limits."""
        if width * height > self.pixels:
            raise TooManyPixels(
                f"The image has {width} x {height} pixels; at most {self.pixels} are accepted. Make it smaller."
            )
        if max(width, height) > _MAX_SIDE:
            raise TooManyPixels(f"The image has {width} x {height} pixels; at most {_MAX_SIDE} a side are accepted.")


def image_format(data: bytes, limits: ImageLimits) -> str:
    """Return "PNG", "JPEG" or "GIF". Raises `NotAnImage`, or the kind of `TooLarge` for the limit exceeded.

    The decoder finds what this does not check, such as damaged pixels.
    """
    tally = _Tally(len(data), limits)
    for signatures, name, has_picture in _FORMATS:
        if data.startswith(signatures):
            with suppress(struct.error):  # a header is cut short
                if has_picture(data, tally):
                    return name
    raise NotAnImage


def begins_like_image(data: bytes) -> bool:
    """Return whether bytes begin with the signature of an image file."""
    return data.startswith((PNG_SIGNATURE, JPEG_SIGNATURE, *GIF_SIGNATURES))


class _Tally:
    """Counts an image's parts, and raises the error for a limit exceeded."""

    def __init__(self, file_bytes: int, limits: ImageLimits) -> None:
        self._limits = limits
        self.frames = 0
        self.scans = 0
        self.pieces_left = _PIECES + file_bytes // _MIN_PIECE_BYTES
        self._metadata_pieces_left = _METADATA_PIECES + limits.metadata_bytes // _MIN_METADATA_PIECE_BYTES
        self._metadata_bytes = 0

    def picture(self, width: int, height: int) -> None:
        if not width or not height:
            raise NotAnImage("The image has no pixels.")
        self._limits.check_size(width, height)

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


def _png_has_picture(data: bytes, tally: _Tally) -> bool:
    has_size = False
    for chunk in png_chunks(data):
        tally.pieces(1)
        if chunk.kind == b"IHDR":
            tally.picture(*struct.unpack_from(">II", data, chunk.content))
            has_size = True
        elif chunk.kind == b"fcTL":
            tally.frame()
        elif chunk.kind not in _PNG_PICTURE:
            tally.metadata(chunk.end - chunk.content)
    return has_size


def _jpeg_has_picture(data: bytes, tally: _Tally) -> bool:
    has_size = False
    for segment in jpeg_segments(data):
        # Before the first scan, each byte outside any segment counts as a segment.
        tally.pieces(1 + (segment.skipped if not tally.scans else 0))
        if segment.marker in JPEG_SIZES:
            height, width = struct.unpack_from(">HH", data, segment.content + 3)
            tally.picture(width, height)
            has_size = True
        elif segment.marker == JPEG_SCAN:
            tally.scan()
        elif segment.marker in JPEG_METADATA:
            tally.metadata(segment.end - segment.content)
    return has_size and tally.scans > 0


def _gif_has_picture(data: bytes, tally: _Tally) -> bool:
    screen_width, screen_height = struct.unpack_from("<HH", data, 6)
    for block in gif_blocks(data, tally.pieces_left):
        tally.pieces(1 + block.sub_blocks + block.skipped)
        if block.kind == GIF_FRAME:
            if not tally.frames:  # decoders make room for a first frame beyond the screen
                left, top, width, height = struct.unpack_from("<HHHH", data, block.start + 1)
                tally.picture(max(screen_width, left + width), max(screen_height, top + height))
            tally.frame()
        elif not tally.frames and block.kind != GIF_GRAPHIC_CONTROL:  # what follows the first frame is not read
            tally.metadata(block.end - block.start)
    return tally.frames > 0


# Signatures, format, and the function that checks whether the file has a picture.
_FORMATS: list[tuple[bytes | tuple[bytes, ...], str, Callable[[bytes, _Tally], bool]]] = [
    (PNG_SIGNATURE, "PNG", _png_has_picture),
    (JPEG_SIGNATURE, "JPEG", _jpeg_has_picture),
    (GIF_SIGNATURES, "GIF", _gif_has_picture),
]
