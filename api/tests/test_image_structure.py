"""Images refused before anything decodes them."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from api.uploads.structure import ImageLimits, image_format
from runtime.errors import (
    NotAnImage,
    ServiceError,
    TooFragmented,
    TooManyFrames,
    TooManyPixels,
    TooManyScans,
    TooMuchMetadata,
)

LIMITS = ImageLimits(pixels=10_000, frames=5, metadata_bytes=100_000)


def saved(kind: str, size: tuple[int, int] = (16, 12), mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def segment(marker: int, content: bytes = b"") -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


PNG, JPEG, GIF = saved("PNG"), saved("JPEG"), saved("GIF", mode="P")
PROGRESSIVE = saved("JPEG", progressive=True)
PNG_HEAD, PNG_REST = PNG[:33], PNG[33:]
# A GIF's header and palette, and its frame.
GIF_HEAD, GIF_FRAME = GIF[: GIF.index(b",")], GIF[GIF.index(b",") : -1]


def with_scans(count: int) -> bytes:
    last = PROGRESSIVE.rindex(b"\xff\xc4")  # its Huffman table
    another = PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xc4", 0, last) : last]
    return PROGRESSIVE[:last] + another * (count - PROGRESSIVE.count(b"\xff\xda")) + PROGRESSIVE[last:]


def animation(frames: int) -> bytes:
    return GIF_HEAD + GIF_FRAME * frames + b";"


def jpeg_of_size(width: int, height: int) -> bytes:
    start = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:start] + struct.pack(">HH", height, width) + JPEG[start + 4 :]


GOOD: dict[str, tuple[bytes, str]] = {
    "PNG": (PNG, "PNG"),
    "interlaced PNG": (saved("PNG", mode="P", interlace=1), "PNG"),
    "PNG with text": (PNG_HEAD + chunk(b"tEXt", b"Title\0Dog") + PNG_REST, "PNG"),
    "animated PNG": (saved("PNG", save_all=True, append_images=[Image.new("RGB", (16, 12), "red")]), "PNG"),
    "JPEG": (JPEG, "JPEG"),
    "progressive JPEG": (PROGRESSIVE, "JPEG"),
    "JPEG with as many scans as allowed": (with_scans(100), "JPEG"),
    "JPEG with scans after its last one": (
        PROGRESSIVE[:-2] + PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xc4") :] * 99,
        "JPEG",
    ),
    "JPEG with another size after its last scan": (JPEG[:-2] + jpeg_of_size(60_000, 60_000)[2:], "JPEG"),
    "JPEG with filling bytes": (JPEG.replace(b"\xff\xdb", b"\xff\xff\xff\xdb"), "JPEG"),
    "JPEG followed by a film": (JPEG + b"\xff\xda" * 1000 + b"\xff\xe1\xff\xff" * 1000, "JPEG"),
    "two pictures": (saved("MPO", save_all=True, append_images=[Image.new("RGB", (16, 12))]), "JPEG"),
    "GIF": (GIF, "GIF"),
    "GIF87a": (b"GIF87a" + GIF[6:], "GIF"),
    "GIF with as many frames as allowed": (animation(5), "GIF"),
    "GIF with much after its first frame": (
        animation(1)[:-1] + b"!\xfe" + (b"\xff" + b"x" * 255) * 1000 + b"\0;",
        "GIF",
    ),
    "GIF cut short after its first frame": (animation(2)[:-9], "GIF"),
    "just as many pixels": (saved("PNG", (100, 100)), "PNG"),
    "just as much metadata": (PNG_HEAD + chunk(b"tEXt", bytes(100_000)) + PNG_REST, "PNG"),
}


@pytest.mark.parametrize("name", GOOD)
def test_an_image_of_no_more_than_allowed_is_known_by_its_content(name: str) -> None:
    data, expected = GOOD[name]
    assert image_format(data, LIMITS) == expected


TOO_MUCH: dict[str, tuple[bytes, type[ServiceError]]] = {
    "PNG's pixels": (saved("PNG", (101, 100)), TooManyPixels),
    "JPEG's pixels": (jpeg_of_size(101, 100), TooManyPixels),
    "GIF's pixels": (saved("GIF", (101, 100)), TooManyPixels),
    "pixels of a GIF's frame": (
        b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + b"," + struct.pack("<HHHHB", 0, 0, 101, 100, 0) + b"\x08\0;",
        TooManyPixels,
    ),
    "pixels of a second header": (PNG_HEAD + saved("PNG", (101, 100))[8:33] + PNG_REST, TooManyPixels),
    "columns": (saved("PNG", (65_536, 1), "1"), TooManyPixels),
    "rows": (saved("PNG", (1, 65_536), "1"), TooManyPixels),
    "frames of a GIF": (animation(6), TooManyFrames),
    "frames of a PNG": (PNG_HEAD + chunk(b"fcTL", bytes(26)) * 6 + PNG_REST, TooManyFrames),
    "scans": (with_scans(101), TooManyScans),
    "bytes of text": (PNG_HEAD + chunk(b"tEXt", bytes(100_001)) + PNG_REST, TooMuchMetadata),
    "bytes of text after the picture": (PNG[:-12] + chunk(b"tEXt", bytes(100_001)) + PNG[-12:], TooMuchMetadata),
    "colour profiles": (PNG_HEAD + chunk(b"iCCP", b"name\0\0") * 100 + PNG_REST, TooMuchMetadata),
    "bytes of EXIF": (JPEG[:2] + segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 2 + JPEG[2:], TooMuchMetadata),
    "segments of EXIF": (JPEG[:2] + segment(0xE1, b"Exif\0\0") * 100 + JPEG[2:], TooMuchMetadata),
    "metadata after an end that is none": (
        JPEG[:-2].replace(b"\xff\xda", b"\xff\xd9" + segment(0xE1) * 100 + b"\xff\xda"),
        TooMuchMetadata,
    ),
    "comments": (GIF_HEAD + b"!\xfe\x01x\0" * 100 + GIF_FRAME + b";", TooMuchMetadata),
    "bytes of comments": (GIF_HEAD + b"!\xfe" + (b"\xff" + b"x" * 255) * 400 + b"\0" + GIF_FRAME, TooMuchMetadata),
    "chunks": (PNG_HEAD + chunk(b"IDAT") * 12_000 + PNG_REST, TooFragmented),
    "segments": (JPEG[:2] + segment(0xC4) * 11_000 + JPEG[2:], TooFragmented),
    "filling bytes": (JPEG[:2] + b"\xff" * 11_000 + JPEG[2:], TooFragmented),
    "bytes of nothing": (JPEG[:2] + segment(0xFE) + bytes(11_000) + JPEG[2:], TooFragmented),
    "sub-blocks": (GIF_HEAD + b"!\xfe" + b"\1x" * 11_000 + b"\0" + GIF_FRAME, TooFragmented),
    "graphic controls": (GIF_HEAD + b"!\xf9\x04\0\0\0\0\0" * 12_000 + GIF_FRAME, TooFragmented),
    "bytes between blocks": (GIF_HEAD + b"\1" * 11_000 + GIF_FRAME, TooFragmented),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_too_much_of_anything_has_an_error_of_its_own(name: str) -> None:
    data, error = TOO_MUCH[name]
    with pytest.raises(error):
        image_format(data, LIMITS)


def test_a_file_of_small_pieces_may_have_more_the_larger_it_is() -> None:
    pieces = chunk(b"IDAT", bytes(200)) * 20_000
    assert image_format(PNG_HEAD + pieces + PNG_REST, LIMITS) == "PNG"


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"hello",
        b"BM" + bytes(100),
        PNG[:8],
        PNG[:20],
        b"\x89PNG\r\n\x1a\n" + PNG_REST,
        PNG_HEAD.replace(struct.pack(">I", 16), bytes(4)) + PNG_REST,
        JPEG[:20],
        JPEG[: JPEG.index(b"\xff\xc0") + 6],
        JPEG[: JPEG.index(b"\xff\xda")],
        jpeg_of_size(16, 0),
        GIF[:10],
        GIF_HEAD,
        GIF_HEAD + b";",
        GIF_HEAD + GIF_FRAME[:5],
    ],
)
def test_what_has_no_picture_is_no_image(data: bytes) -> None:
    with pytest.raises(NotAnImage):
        image_format(data, LIMITS)


HIDDEN_EXIF = segment(0xE1, b"Exif\0\0x") * 100
HIDDEN_COMMENTS = b"!\xfe" + (b"\xff" + b"!\xfe\1x\0" * 51) * 100 + b"\0"
# Where decoders disagree on what belongs to a piece, they find other pieces in what the walk takes for its content.
AMBIGUOUS: dict[str, bytes] = {
    **{
        f"JPEG's segment {marker:02X}": JPEG[:2] + segment(marker, HIDDEN_EXIF) + JPEG[2:]
        for marker in [0x02, 0xBF, 0xC8, 0xD8, 0xDE, 0xDF, *range(0xF0, 0xFE)]
    },
    "GIF's control without a block": GIF_HEAD + b"!\xf9\0" + HIDDEN_COMMENTS + GIF_FRAME,
    "GIF's control of three bytes": GIF_HEAD + b"!\xf9\3\0\0\0\0" + HIDDEN_COMMENTS + GIF_FRAME,
    "GIF's control of 255 bytes": GIF_HEAD + b"!\xf9\xff" + bytes(255) + b"\0" + HIDDEN_COMMENTS + GIF_FRAME,
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_decoders_read_in_different_ways_is_refused(name: str) -> None:
    with pytest.raises(NotAnImage):
        image_format(AMBIGUOUS[name], LIMITS)


def answer(data: bytes) -> str:
    """Return the format, or the error's code; other exceptions fail the test."""
    try:
        return image_format(data, LIMITS)
    except ServiceError as err:
        return err.code


signatures = st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b""])


@given(signatures, st.binary(max_size=500))
def test_any_bytes_are_an_image_or_refused(signature: bytes, content: bytes) -> None:
    assert answer(signature + content)


@given(st.sampled_from([data for data, _ in GOOD.values()]), st.data())
def test_an_image_cut_anywhere_is_known_or_refused(whole: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(whole)))
    assert answer(whole[:cut]) in {answer(whole), "not-an-image"}


side = st.integers(1, 100)


@given(side, side, st.sampled_from(["1", "L", "P", "RGB"]), st.sampled_from(["PNG", "JPEG", "GIF"]), st.booleans())
def test_an_image_that_pillow_writes_is_taken(width: int, height: int, mode: str, kind: str, progressive: bool) -> None:
    mode = "L" if kind == "JPEG" and mode in {"1", "P"} else mode
    assert answer(saved(kind, (width, height), mode, progressive=progressive)) == kind


def pixels_by_pillow(data: bytes) -> int:
    """Return how many pixels Pillow would decode; none if it refuses to."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "GIF"]) as image:
            return int(image.width * image.height)
    except Exception:  # noqa: BLE001 - its refusals are of many kinds
        return 0


WRITERS: dict[str, Callable[[int, bytes], bytes]] = {
    "PNG": lambda kind, data: chunk([b"IHDR", b"tEXt", b"gAMA", b"PLTE", b"acTL"][kind % 5], data),
    "JPEG": lambda kind, data: segment(0xC0 + kind % 64, data),
    "GIF": lambda kind, data: b"," + data if kind % 2 else b"!" + bytes([kind, len(data)]) + data + b"\0",
}
HALVES = {"PNG": (PNG_HEAD, PNG_REST), "JPEG": (JPEG[:2], JPEG[2:]), "GIF": (GIF_HEAD, GIF_FRAME)}


@given(st.sampled_from(list(WRITERS)), st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=30)), max_size=20))
def test_pillow_finds_no_larger_picture_than_the_walk_allows(kind: str, pieces: list[tuple[int, bytes]]) -> None:
    """Pieces of all kinds stand before the picture, some of them sizes of their own."""
    head, rest = HALVES[kind]
    data = head + b"".join(WRITERS[kind](code, content) for code, content in pieces) + rest
    if answer(data) == kind:
        assert pixels_by_pillow(data) <= LIMITS.pixels
