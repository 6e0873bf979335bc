"""Hypothesis strategies for image files, by kind: good files with some damage, and files of random pieces."""

import struct
import zlib

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from fuzz.corpus import good_files
from fuzz.pieces import PNG_SIGNATURE, chunk, png_header, segment, sub_blocks, tiff, with_right_checksums

_small = st.binary(max_size=20)
_bytes = st.one_of(
    _small, st.sampled_from([b"\0\0", b"\xff\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xd9"])
)


@st.composite
def _edited(draw: DrawFn, data: bytes) -> bytes:
    """Return bytes with some places changed, most of them near the start, where the headers are."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 6))):
        end = len(changed) if draw(st.booleans()) else min(len(changed), 300)
        place = draw(st.integers(0, end))
        length = draw(st.sampled_from([0, 1, 2, 4, 100, len(changed)]))
        changed[place : place + length] = draw(_bytes)
    return bytes(changed)


@st.composite
def _damaged(draw: DrawFn, files: list[bytes]) -> bytes:
    """Return a file with some bytes changed; a PNG's checksums may be corrected."""
    data = draw(_edited(draw(st.sampled_from(files))))
    return with_right_checksums(data) if draw(st.booleans()) else data


@st.composite
def _spliced(draw: DrawFn, files: list[bytes]) -> bytes:
    """Return the beginning of one file and the end of another."""
    first, second = draw(st.sampled_from(files)), draw(st.sampled_from(files))
    return with_right_checksums(first[: draw(st.integers(0, len(first)))] + second[draw(st.integers(0, len(second))) :])


# Tags that Pillow reads: the orientation, directories within, the resolution, the pictures of a file with several.
_tags = st.sampled_from([0x0112, 0x8769, 0x8825, 0x011A, 0x0128, 0xB001, 0xB002]) | st.integers(0, 65_535)
_numbers = st.integers(0, 60) | st.integers(0, 2**32 - 1)
_tiff = st.builds(tiff, st.lists(st.tuples(_tags, st.integers(0, 14), _numbers, _numbers), max_size=8), _small)
_contents = st.one_of(_small, st.binary(max_size=200), _tiff, _small.map(zlib.compress))
_sides = st.one_of(st.integers(1, 40), st.integers(1, 40), st.integers(0, 3000), st.integers(0, 2**32 - 1))
_png_kinds = st.sampled_from(b"PLTE tRNS tEXt zTXt iTXt iCCP eXIf acTL fcTL fdAT pHYs".split())
_png_headers = st.builds(
    png_header,
    _sides,
    _sides,
    depth=st.sampled_from([8, 8, 8, 1, 2, 4, 16, 3]),
    colour_type=st.sampled_from([2, 2, 0, 3, 4, 6, 1]),
    interlaced=st.integers(0, 2),
)
_keyword = st.sampled_from(
    [b"", b"k\0\0", b"k\0\0\0\0\0", b"Raw profile type exif\0\0", b"XML:com.adobe.xmp\0\0\0\0\0"]
)


@st.composite
def _png_of_pieces(draw: DrawFn) -> bytes:
    header = draw(_png_headers)
    kinds = draw(st.lists(_png_kinds, max_size=8))
    chunks = b"".join(chunk(kind, draw(_keyword) + draw(_contents)) for kind in kinds)
    pixels = chunk(b"IDAT", zlib.compress(bytes(draw(st.integers(5000, 50_000) | st.integers(0, 100)))))
    return header + chunks + pixels + chunk(b"IEND")


_app_starts = st.sampled_from(
    [b"", b"Exif\0\0", b"JFIF\0\1\1", b"Adobe\0\0", b"MPF\0", b"ICC_PROFILE\0\1\1", b"Photoshop 3.0\x008BIM"]
)
_segments = st.builds(
    lambda marker, start, content: segment(marker, start + content), st.integers(0x01, 0xFE), _app_starts, _contents
)


@st.composite
def _jpeg_of_pieces(draw: DrawFn, files: list[bytes]) -> bytes:
    """Return a JPEG with segments of all kinds before its own or before its scan."""
    data, more = draw(st.sampled_from(files)), b"".join(draw(st.lists(_segments, min_size=1, max_size=6)))
    place = draw(st.sampled_from([2, data.index(b"\xff\xda"), data.rindex(b"\xff\xda")]))
    return data[:place] + more + data[place:]


_box = st.lists(st.integers(0, 100) | st.integers(0, 65_535), min_size=4, max_size=4)


@st.composite
def _gif_of_pieces(draw: DrawFn) -> bytes:
    data = b"GIF89a" + struct.pack("<HH", *draw(_box)[:2]) + draw(st.binary(min_size=3, max_size=3))
    for kind in draw(st.lists(st.sampled_from([0, 0, 0, 0xF9, 0xFE, 0xFF, 0x01, 0x2C]), max_size=8)):
        frame = b"," + struct.pack("<HHHH", *draw(_box)) + bytes([draw(st.integers(0, 255)), draw(st.integers(0, 12))])
        data += frame if kind == 0 else b"!" + bytes([kind])
        data += sub_blocks(draw(_contents), draw(st.integers(1, 255)))
    return data + b";"


def image_files() -> dict[str, SearchStrategy[bytes]]:
    """Return the strategy for every kind of file."""
    files = good_files()
    made = {"PNG": _png_of_pieces(), "JPEG": _jpeg_of_pieces(files["JPEG"]), "GIF": _gif_of_pieces()}
    all_files = [data for group in files.values() for data in group]
    signatures = st.sampled_from([b"", PNG_SIGNATURE, b"\xff\xd8\xff", b"GIF89a"])
    return {
        **{f"damaged {kind}": _damaged(group) for kind, group in files.items()},
        **{f"{kind} of random pieces": strategy for kind, strategy in made.items()},
        "two files spliced": _spliced(all_files),
        "random bytes": st.builds(lambda start, rest: start + rest, signatures, st.binary(max_size=1000)),
    }
