"""Reduces an image file to the data of its first frame's pixels, so that a decoder sees nothing else.

Text, colour profiles, EXIF, thumbnails, further frames and pictures would cost decoding time, and damage in them would
make a decoder refuse a picture that browsers show. The remaining data are unambiguous, so a decoder follows the same
steps as jobs/image_walk.py.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from jobs.image_walk import (
    GIF_DESCRIPTOR_BYTES,
    GIF_FRAME,
    GIF_GRAPHIC_CONTROL,
    GIF_HEADER_BYTES,
    GIF_SIGNATURES,
    JPEG_END,
    JPEG_SCAN,
    JPEG_SIGNATURE,
    JPEG_SIZES,
    JPEG_TABLES,
    PNG_SIGNATURE,
    Block,
    Chunk,
    JpegScans,
    Segment,
    gif_blocks,
    gif_palette_bytes,
    jpeg_segments,
    png_chunks,
)
from runtime.errors import NotAnImage

_PNG_HEADER = struct.Struct(">IIBB3s")
_PNG_PALETTE = 3
# The number of samples of a transparent colour, by colour type.
_PNG_KEY_SAMPLES = {0: 1, 2: 3}
_CHECKSUM_BYTES = 4
# The length of the sequence number before a frame's pixels.
_NUMBER_BYTES = 4

_JPEG_PIXELS = JPEG_SIZES | JPEG_TABLES | {JPEG_SCAN}
_JPEG_EXIF = 0xE1
# These application segments say how colours are stored, if they are as long as libjpeg requires; all others are
# metadata.
_JPEG_COLOURS = {0xE0: (b"JFIF\0", 14), 0xEE: (b"Adobe", 12)}
# EXIF data begin with their name and a header of 8 bytes.
_JPEG_EXIF_BYTES = 14
_JPEG_BEGINNING, _JPEG_ENDING = b"\xff\xd8", b"\xff\xd9"
# Filler without markers, whose first bit is 1: libjpeg itself continues with zeros when a file ends early.
_MORE_PIXELS = bytes((149 + 101 * index) % 251 for index in range(256))

# EXIF 2.32: the orientation tag, a short integer: how to turn the stored picture upright.
_ORIENTATION, _SHORT, _AS_STORED = 0x0112, 3, 1

# The area of a frame: width, height, and its left and top offset.
_Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class ColourKey:
    """The one transparent colour of a PNG, in samples of `depth` bits."""

    samples: tuple[int, ...]
    depth: int


@dataclass(frozen=True, slots=True)
class BarePicture:
    """A file with the pixels of one frame, and the original file's information on them.

    `screen` is the size (width, height) of the whole picture, `offset` the frame's position in it; a JPEG's frame is
    the whole picture. `orientation` is EXIF's, from 1 to 8. `continuation` is set for a JPEG without its end: the same
    file with made-up pixels after its last ones. If both decode to the same picture, none was missing.
    """

    file: bytes
    screen: tuple[int, int] | None = None
    offset: tuple[int, int] = (0, 0)
    orientation: int = _AS_STORED
    colour_key: ColourKey | None = None
    continuation: bytes | None = None


def bare_picture(data: bytes) -> BarePicture:
    """Return the data of a PNG, JPEG or GIF file that the pixels of its first frame need.

    Raises `NotAnImage` if it has no picture, and `EOFError`, `LookupError`, `ValueError` or `struct.error` if it ends
    within one.
    """
    if data.startswith(PNG_SIGNATURE):
        return _bare_png(data)
    if data.startswith(JPEG_SIGNATURE):
        return _bare_jpeg(data)
    if data.startswith(GIF_SIGNATURES):
        return _bare_gif(data)
    raise NotAnImage


def _bare_png(data: bytes) -> BarePicture:
    chunks = list(png_chunks(data))
    before = list(takewhile(lambda chunk: chunk.kind != b"IDAT", chunks))
    headers = _png_headers(data, before)
    if b"IHDR" not in headers:
        raise NotAnImage
    width, height, depth, colour_type, ways = _PNG_HEADER.unpack_from(headers[b"IHDR"])
    (*size, left, top), pixels = _png_frame(data, headers, chunks[len(before) :], (width, height))
    pieces = [(b"IHDR", _PNG_HEADER.pack(*size, depth, colour_type, ways))]
    if colour_type == _PNG_PALETTE:
        pieces += _png_palette(headers)
    file = [PNG_SIGNATURE, *(_png_chunk(*piece) for piece in pieces), *_png_pixel_chunk(pixels), _png_chunk(b"IEND")]
    return BarePicture(
        b"".join(file),
        (width, height),
        (left, top),
        _orientation(headers.get(b"eXIf", b"")),
        _colour_key(headers.get(b"tRNS", b""), colour_type, depth),
    )


def _png_headers(data: bytes, chunks: Sequence[Chunk]) -> dict[bytes, bytes]:
    """Return the first chunk of each relevant kind that has the right checksum."""
    headers: dict[bytes, bytes] = {}
    for kind, content, end in chunks:
        if kind in {b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"acTL", b"fcTL"} and kind not in headers:
            checksum = zlib.crc32(data[content - len(kind) : end]).to_bytes(_CHECKSUM_BYTES, "big")
            if data[end : end + _CHECKSUM_BYTES] == checksum:
                headers[kind] = data[content:end]
    return headers


def _png_frame(
    data: bytes, headers: dict[bytes, bytes], chunks: Sequence[Chunk], size: tuple[int, int]
) -> tuple[_Box, list[memoryview]]:
    """Return the area and the pixels of the first frame: the default picture, unless the animation excludes that."""
    if _is_animated(headers) and b"fcTL" not in headers:
        others = [chunk for chunk in chunks if chunk.kind in {b"fcTL", b"fdAT"}]
        beginnings = list(takewhile(lambda chunk: chunk.kind == b"fcTL", others))
        frame = list(takewhile(lambda chunk: chunk.kind == b"fdAT", others[len(beginnings) :]))
        if beginnings and frame:
            width, height, left, top = struct.unpack_from(">4I", data, beginnings[-1].content + 4)
            if left + width <= size[0] and top + height <= size[1]:
                return (width, height, left, top), _png_pixels(data, frame, _NUMBER_BYTES)
    return (*size, 0, 0), _png_pixels(data, [chunk for chunk in chunks if chunk.kind == b"IDAT"])


def _png_palette(headers: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Return the palette, and its alpha if that follows, padded with the last colour, as browsers do."""
    palette, order = headers.get(b"PLTE", b""), list(headers)
    count = len(palette) // 3
    pieces = [(b"PLTE", _repeating_last(palette[: 3 * count], 3))] if count else []
    if count and b"tRNS" in headers and order.index(b"PLTE") < order.index(b"tRNS"):
        pieces.append((b"tRNS", _repeating_last(headers[b"tRNS"][:count].ljust(count, b"\xff"), 1)))
    return pieces


def _repeating_last(values: bytes, width: int) -> bytes:
    return values + values[-width:] * (256 - len(values) // width)


def _is_animated(headers: dict[bytes, bytes]) -> bool:
    return 0 < int.from_bytes(headers.get(b"acTL", b"")[:4], "big") < 1 << 31


def _png_pixels(data: bytes, chunks: Sequence[Chunk], skipped_bytes: int = 0) -> list[memoryview]:
    """Return deflated pixels without the last byte of their checksum.

    So the checksum cannot be wrong. A decoder that has all rows does not wait for it; one that has not misses the end.
    """
    view = memoryview(data)
    pixels = [part for chunk in chunks if (part := view[chunk.content + skipped_bytes : chunk.end])]
    if pixels and chunks[-1].end + _CHECKSUM_BYTES <= len(data):
        pixels[-1] = pixels[-1][:-1]
    return pixels


def _png_pixel_chunk(pixels: Sequence[memoryview]) -> list[bytes | memoryview]:
    # Pillow does not check the checksum of pixels, which takes 5 % of the time of their decoding.
    return [struct.pack(">I4s", sum(map(len, pixels)), b"IDAT"), *pixels, bytes(_CHECKSUM_BYTES)]


def _png_chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _colour_key(content: bytes, colour_type: int, depth: int) -> ColourKey | None:
    samples = _PNG_KEY_SAMPLES.get(colour_type)
    if samples is None or len(content) < 2 * samples:
        return None
    used_bits = (1 << depth) - 1
    return ColourKey(tuple(sample & used_bits for sample in struct.unpack_from(f">{samples}H", content)), depth)


def _bare_jpeg(data: bytes) -> BarePicture:
    segments = list(jpeg_segments(data))
    headers = list(takewhile(lambda segment: segment.marker != JPEG_SCAN, segments))
    if len(headers) == len(segments):
        raise EOFError("no scan")
    orientation = _orientation(_jpeg_exif(data, headers))
    view = memoryview(data)
    kept = [view[each.start : each.end] for each in segments if _is_needed(data, each)]
    if segments[-1].marker == JPEG_END:
        return BarePicture(b"".join([_JPEG_BEGINNING, *kept, _JPEG_ENDING]), orientation=orientation)
    if not _has_all_scans(data, segments):
        raise EOFError("missing scans")
    file = b"".join([_JPEG_BEGINNING, *kept]).rstrip(_JPEG_ENDING[:1])
    return BarePicture(file + _JPEG_ENDING, orientation=orientation, continuation=file + _MORE_PIXELS + _JPEG_ENDING)


def _is_needed(data: bytes, segment: Segment) -> bool:
    if segment.marker in _JPEG_PIXELS:
        return True
    if segment.marker not in _JPEG_COLOURS:
        return False
    name, least_bytes = _JPEG_COLOURS[segment.marker]
    return data.startswith(name, segment.content + 2) and _content_bytes(segment) >= least_bytes


def _content_bytes(segment: Segment) -> int:
    """Return the size of a segment's content, without its length field."""
    return segment.end - segment.content - 2


def _jpeg_exif(data: bytes, segments: Sequence[Segment]) -> bytes:
    """Return the first EXIF data."""
    of_exif = (
        data[each.content + 8 : each.end]
        for each in segments
        if each.marker == _JPEG_EXIF
        and data.startswith(b"Exif\0", each.content + 2)
        and _content_bytes(each) >= _JPEG_EXIF_BYTES
    )
    return next(of_exif, b"")


def _has_all_scans(data: bytes, segments: Sequence[Segment]) -> bool:
    scans = JpegScans()
    for marker, _, content, *_ in segments:
        scans.add(data, marker, content)
    return scans.are_complete


def _bare_gif(data: bytes) -> BarePicture:
    transparency = b""
    for block in gif_blocks(data):
        if block.kind == GIF_GRAPHIC_CONTROL:
            has_any, index = data[block.content + 1] & 1, data[block.content + 4]
            transparency = GIF_GRAPHIC_CONTROL + bytes([4, has_any, 0, 0, index, 0])
        elif block.kind == GIF_FRAME:
            return _of_gif_frame(data, block, transparency)
    raise NotAnImage


def _of_gif_frame(data: bytes, block: Block, transparency: bytes) -> BarePicture:
    screen_width, screen_height = struct.unpack_from("<HH", data, 6)
    left, top, width, height, flags = struct.unpack_from("<4HB", data, block.start + 1)
    file = [
        struct.pack("<6s2H3B", GIF_SIGNATURES[-1], width, height, data[10], 0, 0),
        data[GIF_HEADER_BYTES : GIF_HEADER_BYTES + gif_palette_bytes(data, 10)],
        transparency,
        struct.pack("<c4HB", GIF_FRAME, 0, 0, width, height, flags),
        data[block.start + GIF_DESCRIPTOR_BYTES : block.end],
    ]
    # Browsers enlarge the screen for a first frame that exceeds it.
    screen = max(screen_width, left + width), max(screen_height, top + height)
    return BarePicture(b"".join(file), screen, (left, top))


def _orientation(exif: bytes) -> int:
    """Return the orientation in EXIF data, or 1 if there is none that browsers follow."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return _AS_STORED
    (start,) = struct.unpack_from(f"{order}I", exif, 4)
    (count,) = struct.unpack(f"{order}H", exif[start : start + 2].ljust(2, b"\0"))
    for position in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind, values, value = struct.unpack_from(f"{order}HHIH", exif, position)
        if (tag, kind, values) == (_ORIENTATION, _SHORT, 1) and 1 <= value <= 8:
            return int(value)
    return _AS_STORED
