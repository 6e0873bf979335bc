"""A decoder gets exactly the data that the pixels need: no metadata cost time or spoil a picture."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.bare_picture import bare_picture
from model.preprocessing import decode
from runtime.errors import NotAnImage, TooLarge
from testing.image_writers import (
    CHANNELS,
    DEPTHS,
    animated_png,
    chunk,
    gif_control,
    gif_frame,
    gif_start,
    halves,
    png,
    png_pixels,
    png_start,
    segment,
    sub_blocks,
)

MAX_PIXELS = 100_000
CHANCE = np.random.default_rng(0)
COLOURS = CHANCE.integers(0, 256, (24, 36, 3))
INDICES = CHANCE.integers(0, 4, (24, 36, 1))
PALETTE = CHANCE.integers(0, 256, (256, 3), dtype=np.uint8)


def saved(kind: str, **options: Any) -> bytes:
    file = BytesIO()
    Image.fromarray(COLOURS.astype(np.uint8)).resize((72, 48), Image.Resampling.BICUBIC).save(file, kind, **options)
    return file.getvalue()


PNG = png(COLOURS)
HEADER, PIXELS, END = PNG[:33], PNG[33:-12], PNG[-12:]
DEFLATED = PIXELS[8:-4]
PALETTE_PNG = png(INDICES, 8, 3, chunks=chunk(b"PLTE", PALETTE[:4].tobytes()))
JPEG, PROGRESSIVE = saved("JPEG", quality=90), saved("JPEG", progressive=True)
TABLES = JPEG.index(b"\xff\xdb")
SCAN = JPEG.index(b"\xff\xda")
LAST_SCAN = PROGRESSIVE.rindex(b"\xff\xc4")
GIF_HEAD, GIF_FRAME = gif_start(36, 24, PALETTE), gif_frame(INDICES[..., 0])
GIF = GIF_HEAD + GIF_FRAME + b";"
EXIF = b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x0112, 3, 1, 6) + bytes(4)
MEGABYTES = zlib.compress(bytes(5_000_000), 9)


def pixels(data: bytes) -> NDArray[np.uint8]:
    """Return what is decoded of a file: uint8 RGB of shape (height, width, 3)."""
    return np.asarray(decode(data, MAX_PIXELS))


def wrong_checksum(kind: bytes, content: bytes) -> bytes:
    made = chunk(kind, content)
    return made[:-4] + bytes(byte ^ 1 for byte in made[-4:])


def with_chunks(*chunks: bytes) -> tuple[bytes, bytes]:
    return HEADER + b"".join(chunks) + PIXELS + END, PNG


def with_segments(*segments: bytes) -> tuple[bytes, bytes]:
    return JPEG[:TABLES] + b"".join(segments) + JPEG[TABLES:], JPEG


def with_blocks(*blocks: bytes) -> tuple[bytes, bytes]:
    return GIF_HEAD + b"".join(blocks) + GIF_FRAME + b";", GIF


# Data beside the pixels, or damage outside of them: the file, and one that looks the same.
WHOLE: dict[str, tuple[bytes, bytes]] = {
    "text that inflates to megabytes": with_chunks(chunk(b"zTXt", b"Title\0\0" + MEGABYTES)),
    "international text that inflates to megabytes": with_chunks(chunk(b"iTXt", b"Title\0\1\0\0\0" + MEGABYTES)),
    "colour profile that inflates to megabytes": with_chunks(chunk(b"iCCP", b"name\0\0" + MEGABYTES)),
    "text of an unknown compression": with_chunks(chunk(b"zTXt", b"Title\0\7x")),
    "colour profile of an unknown compression": with_chunks(chunk(b"iCCP", b"name\0\7x")),
    "colour profile without a name": with_chunks(chunk(b"iCCP", b"name")),
    "wrong checksum of a text": with_chunks(wrong_checksum(b"tEXt", b"Title\0Dog")),
    "wrong checksum of a colour profile": with_chunks(wrong_checksum(b"iCCP", b"name\0\0")),
    "wrong checksum of the orientation": with_chunks(wrong_checksum(b"eXIf", EXIF)),
    "wrong checksum of the transparent colour": with_chunks(wrong_checksum(b"tRNS", bytes(6))),
    "empty chunks": with_chunks(*map(chunk, [b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"eXIf", b"tRNS", b"pHYs", b"acTL"])),
    "chunk without a name": with_chunks(chunk(b"a\xff\0\0", b"x")),
    "text cut short after the picture": (PNG[:-12] + chunk(b"tEXt", b"Title\0Dog")[:-8], PNG),
    "empty chunk of pixels": (HEADER + chunk(b"IDAT") + PIXELS + chunk(b"IDAT") + END, PNG),
    "pixels in two chunks": (HEADER + b"".join(chunk(b"IDAT", part) for part in halves(DEFLATED)) + END, PNG),
    "text between the pixels": (
        HEADER + chunk(b"tEXt", b"Title\0Dog").join(chunk(b"IDAT", part) for part in halves(DEFLATED)) + END,
        PNG,
    ),
    "wrong checksum of the chunk of pixels": (HEADER + wrong_checksum(b"IDAT", DEFLATED) + END, PNG),
    "wrong checksum of the pixels": (HEADER + chunk(b"IDAT", DEFLATED[:-4] + b"nope") + END, PNG),
    "half a checksum of the pixels": (HEADER + chunk(b"IDAT", DEFLATED[:-2]) + END, PNG),
    "more behind the pixels": (HEADER + chunk(b"IDAT", DEFLATED + b"more") + END, PNG),
    "no end of a PNG": (HEADER + PIXELS, PNG),
    "half an end of a PNG": (HEADER + PIXELS + END[:6], PNG),
    "wrong checksum of the end": (HEADER + PIXELS + wrong_checksum(b"IEND", b""), PNG),
    "PNG cut short in the pixels' checksum": (PNG[:-18], PNG),
    "wrong frames behind a PNG that is the first": (
        HEADER + chunk(b"acTL", struct.pack(">II", 3, 0)) + chunk(b"fcTL", bytes(26)) + PIXELS + chunk(b"fcTL") + END,
        PNG,
    ),
    "no frame where one should be": with_chunks(chunk(b"acTL", struct.pack(">II", 1, 0))),
    "frame beyond the screen": (animated_png(COLOURS, COLOURS[:9], 3, 20), PNG),
    "animation of no frames": (animated_png(COLOURS, COLOURS[:9], 0, 0, frames=0), PNG),
    "bytes behind a PNG": (PNG + b"\xff" * 100, PNG),
    "no end of a JPEG": (JPEG[:-2], JPEG),
    "half an end of a JPEG": (JPEG[:-1], JPEG),
    "no end of a progressive JPEG": (PROGRESSIVE[:-2], PROGRESSIVE),
    "zeros in the place of the end": (JPEG[:-2] + bytes(50), JPEG),
    "bytes before the end": (JPEG[:-2] + b"garbage" + JPEG[-2:], JPEG),
    "markers before the end": (JPEG[:-2] + b"\xff\x33x\xff\xf0\0\4ab" + JPEG[-2:], JPEG),
    "another JPEG in the place of the end": (JPEG[:-2] + PROGRESSIVE, JPEG),
    "bytes behind a JPEG": (JPEG + b"\xff\xda\xff\xe1garbage" * 10, JPEG),
    "bytes between segments": with_segments(b"garbage", segment(0xE3), b"\xff\xff\xff"),
    "EXIF too short for its header before another": (
        JPEG[:TABLES] + segment(0xE1, b"Exif\0\0") + segment(0xE1, b"Exif\0\0" + EXIF) + JPEG[TABLES:],
        with_segments(segment(0xE1, b"Exif\0\0" + EXIF))[0],
    ),
    "segments of no length": with_segments(b"\xff\xe3\0\0", b"\xff\xfe\0\1"),
    "JFIF cut short": with_segments(segment(0xE0, b"JFIF\0\1")),
    "Adobe's segment cut short": with_segments(segment(0xEE, b"Adobe\0")),
    "another size and scan before the end": (
        PROGRESSIVE[:-2] + segment(0xC2, b"\x08\xff\xff\xff\xff\1\1\x11\0") + PROGRESSIVE[LAST_SCAN:],
        PROGRESSIVE,
    ),
    "a scan cut short after the last one": (JPEG[:-2] + JPEG[SCAN : SCAN + 20] + JPEG[-2:], JPEG),
    "selection of coefficients that only progressive pictures have": (
        JPEG[: SCAN + 11] + b"\0\0\1" + JPEG[SCAN + 14 : -2],
        JPEG,
    ),
    "broken EXIF": with_segments(segment(0xE1, b"Exif\0\0" + EXIF[:12])),
    "EXIF of a wrong place": with_segments(segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff")),
    "wrong colour profile": with_segments(segment(0xE2, b"ICC_PROFILE\0\1\7garbage")),
    "wrong list of pictures": with_segments(segment(0xE2, b"MPF\0garbage")),
    "wrong resources": with_segments(segment(0xED, b"Photoshop 3.0\0008BIM\3\xed\xff")),
    "metadata between scans": (
        PROGRESSIVE[:LAST_SCAN] + segment(0xE1, b"Exif\0\0" + EXIF) + PROGRESSIVE[LAST_SCAN:],
        PROGRESSIVE,
    ),
    "no end of a GIF": (GIF[:-1], GIF),
    "second frame cut short": (GIF[:-1] + GIF_FRAME[:-50], GIF),
    "comment cut short after the frame": (GIF[:-1] + b"!\xfe\xffcut", GIF),
    "large comment": with_blocks(b"!\xfe" + sub_blocks(bytes(100_000))),
    "extension whose label is a frame's beginning": with_blocks(b"!," + sub_blocks(bytes(20))),
    "empty extensions": with_blocks(b"!\xff\0!\xfe\0!\x01\0"),
    "control that another one replaces": with_blocks(gif_control(int(INDICES[0, 0, 0])), gif_control(None)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_picture_whose_pixels_are_whole_is_decoded_whatever_is_around_them(name: str) -> None:
    data, same = WHOLE[name]
    assert np.array_equal(pixels(data), pixels(same))


MISSING: dict[str, bytes] = {
    "a row of a PNG": png_start(COLOURS, 8, 2) + chunk(b"IDAT", png_pixels(COLOURS[:-1], 8)) + END,
    "half of a PNG's pixels": HEADER + chunk(b"IDAT", halves(DEFLATED)[0]) + END,
    "a byte of a PNG's pixels": (HEADER + PIXELS)[:-9],
    "the pixels of a PNG": HEADER + END,
    "the palette of a PNG": png(INDICES, 8, 3),
    "the palette of a PNG, whose checksum is wrong": png(INDICES, 8, 3, chunks=wrong_checksum(b"PLTE", bytes(12))),
    "the header of a PNG, whose checksum is wrong": HEADER[:-1] + b"x" + PIXELS + END,
    "half of a frame of a PNG": animated_png(COLOURS, COLOURS, 0, 0)[:-60],
    "half of a JPEG": halves(JPEG)[0],
    "a byte of a JPEG's pixels": JPEG[:-3],
    "the last scan of a progressive JPEG": PROGRESSIVE[:LAST_SCAN],
    "a byte of a progressive JPEG's pixels": PROGRESSIVE[:-3],
    "pixels after a marker among them": JPEG[:-200] + b"\xff\x01" + JPEG[-198:],
    "the first scan": JPEG[:SCAN],
    "the tables": JPEG[:TABLES] + JPEG[JPEG.index(b"\xff\xc0") :],
    "half of a GIF": halves(GIF)[0] + b"\0;",
    "the frame": GIF_HEAD + b";",
}


@pytest.mark.parametrize("name", MISSING)
def test_a_picture_of_which_something_is_missing_is_refused(name: str) -> None:
    with pytest.raises(NotAnImage):
        decode(MISSING[name], MAX_PIXELS)


@pytest.mark.parametrize("cut", range(1, 40))
def test_no_jpeg_that_lacks_pixels_is_taken_for_whole(cut: int) -> None:
    """Blocks that are missing look grey, and these are not."""
    for whole in (JPEG, PROGRESSIVE):
        with pytest.raises(NotAnImage):
            decode(whole[: -2 - cut], MAX_PIXELS)


HOSTILE: dict[str, tuple[bytes, bytes]] = {
    "texts": with_chunks(*[chunk(b"zTXt", b"Title\0\0" + MEGABYTES)] * 100),
    "colour profiles": with_chunks(*[chunk(b"iCCP", b"name\0\0" + MEGABYTES)] * 100),
    "private chunks": with_chunks(*[chunk(b"abCd")] * 1000),
    "chunks after the picture": (PNG[:-12] + chunk(b"zTXt", b"Title\0\0" + MEGABYTES) * 100 + PNG[-12:], PNG),
    "EXIF": with_segments(*[segment(0xE1, b"Exif\0\0x")] * 1000),
    "comments": with_segments(*[segment(0xFE, b"x")] * 1000),
    "resources": with_segments(*[segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\0\0\0\0\0\0\0" * 1000)] * 100),
    "scans after the last one": (PROGRESSIVE[:-2] + PROGRESSIVE[LAST_SCAN:-2] * 90, PROGRESSIVE[:-2]),
    "lists of pictures": with_segments(*[segment(0xE2, b"MPF\0" + EXIF)] * 1000),
    "filling bytes": with_segments(b"\xff" * 1000),
    "extensions": with_blocks(*[b"!\xfe" + sub_blocks(b"x"), b"!\xff\0"] * 1000),
    "further frames": (GIF[:-1] + GIF_FRAME * 100 + b";", GIF),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_decoder_is_given_nothing_of_what_could_cost_it_time(name: str) -> None:
    data, bare = HOSTILE[name]
    assert bare_picture(data).file == bare_picture(bare).file


@pytest.mark.parametrize("marker", [*range(0xF0, 0xFE), *range(0x02, 0xC0, 21), 0xC8, 0xD8, 0xDE, 0xDF])
def test_a_jpeg_with_a_segment_that_decoders_read_in_different_ways_is_refused(marker: int) -> None:
    hidden = segment(marker, segment(0xE1, b"Exif\0\0x") * 100)
    with pytest.raises(NotAnImage):
        decode(JPEG[:TABLES] + hidden + JPEG[TABLES:], MAX_PIXELS)


KEYED = [(colour_type, depth) for colour_type in (0, 2) for depth in DEPTHS[colour_type]]


@pytest.mark.parametrize(("colour_type", "depth"), KEYED)
@pytest.mark.parametrize("interlaced", [False, True])
def test_the_transparent_colour_of_a_png_of_any_depth_is_white(colour_type: int, depth: int, interlaced: bool) -> None:
    """Colours that differ from it in their last bit alone are not."""
    samples = np.random.default_rng(1).integers(0, 2**depth, (24, 36, CHANNELS[colour_type]))
    key = samples[3, 4].copy()
    samples[5:7] = key
    samples[8:10] = key ^ 1
    transparency = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))
    plain = pixels(png(samples, depth, colour_type, interlaced))
    seen = pixels(png(samples, depth, colour_type, interlaced, transparency))
    is_key = (samples == key).all(-1)
    assert is_key[5:7].all()
    assert not is_key[8:10].any()
    assert np.array_equal(seen, np.where(is_key[..., None], 255, plain))


@pytest.mark.parametrize("colour_type", [0, 2])
def test_a_transparent_colour_counts_in_as_many_bits_as_the_picture_has(colour_type: int) -> None:
    samples = COLOURS[..., : CHANNELS[colour_type]]
    key = [256 + int(sample) for sample in samples[3, 4]]
    seen = decode(png(samples, 8, colour_type, chunks=chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))), MAX_PIXELS)
    assert seen.getpixel((4, 3)) == (255, 255, 255)


def on_white(part: NDArray[Any], left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
    seen = np.full((height, width, 3), 255, np.uint8)
    seen[top : top + part.shape[0], left : left + part.shape[1]] = part
    return seen


def test_what_a_gifs_first_frame_leaves_free_of_its_screen_is_white() -> None:
    data = gif_start(50, 40, PALETTE) + gif_frame(INDICES[..., 0], 5, 6) + b";"
    assert np.array_equal(pixels(data), on_white(PALETTE[INDICES[..., 0]], 5, 6, 50, 40))


def test_what_is_transparent_in_a_gifs_first_frame_is_white_wherever_it_is() -> None:
    data = gif_start(50, 40, PALETTE) + gif_control(1) + gif_frame(INDICES[..., 0], 5, 6) + b";"
    part = np.where(INDICES == 1, 255, PALETTE[INDICES[..., 0]])
    assert np.array_equal(pixels(data), on_white(part, 5, 6, 50, 40))


@pytest.mark.parametrize("screen", [(0, 0), (1, 1), (36, 24)])
def test_a_gif_has_room_for_a_first_frame_beyond_its_screen(screen: tuple[int, int]) -> None:
    data = gif_start(*screen, PALETTE) + gif_frame(INDICES[..., 0], 20, 10) + b";"
    assert np.array_equal(pixels(data), on_white(PALETTE[INDICES[..., 0]], 20, 10, 56, 34))


@pytest.mark.parametrize(
    ("left", "top", "shown"), [(0, 0, COLOURS[::-1]), (0, 0, COLOURS[:9, :8]), (7, 5, COLOURS[:9])]
)
def test_an_animated_png_looks_like_its_first_frame_where_its_picture_is_none(
    left: int, top: int, shown: NDArray[np.int_]
) -> None:
    shown = shown[:, : 36 - left]
    data = animated_png(COLOURS, shown, left, top)
    assert np.array_equal(pixels(data), on_white(shown, left, top, 36, 24))


@pytest.mark.parametrize(
    "data",
    [
        gif_start(1000, 1000, PALETTE) + gif_frame(INDICES[..., 0]) + b";",
        png_start(np.zeros((1000, 1000), int), 8, 2) + animated_png(COLOURS, COLOURS, 0, 0)[33:],
    ],
    ids=["GIF", "PNG"],
)
def test_a_screen_of_too_many_pixels_is_refused_though_its_frame_has_few(data: bytes) -> None:
    with pytest.raises(TooLarge, match="1000 x 1000 pixels"):
        decode(data, MAX_PIXELS)


def tagged(*tags: tuple[int, int, int, int], order: str = "<") -> bytes:
    """Return EXIF data of tags (tag, type, count, value)."""
    start = {"<": b"II*\0\x08\0\0\0", ">": b"MM\0*\0\0\0\x08"}[order]
    rows = b"".join(struct.pack(f"{order}HHIHxx", *tag) for tag in tags)
    return start + struct.pack(f"{order}H", len(tags)) + rows + bytes(4)


ORIENTATION = (0x0112, 3, 1, 6)
# EXIF data, and whether browsers turn the picture for them.
TURNS: dict[str, tuple[bytes, bool]] = {
    "little-endian": (tagged(ORIENTATION), True),
    "big-endian": (tagged(ORIENTATION, order=">"), True),
    "after others": (tagged((0x010F, 2, 1, 0), (0x0110, 2, 1, 0), ORIENTATION), True),
    "a wrong one before": (tagged((0x0112, 3, 1, 9), ORIENTATION), True),
    "two": (tagged(ORIENTATION, (0x0112, 3, 1, 3)), True),
    "not as many tags as announced": (tagged(ORIENTATION).replace(b"\1\0\x12", b"\xff\xff\x12"), True),
    "a longer type": (tagged((0x0112, 4, 1, 6)), False),
    "two values": (tagged((0x0112, 3, 2, 6)), False),
    "no values": (tagged((0x0112, 3, 0, 6)), False),
    "none": (tagged(), False),
    "cut short": (tagged(ORIENTATION)[:14], False),
    "another beginning": (b"XX" + tagged(ORIENTATION)[2:], False),
}


@pytest.mark.parametrize("name", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_is_turned_as_browsers_turn_it(name: str, kind: str) -> None:
    exif, turned = TURNS[name]
    files = {"PNG": with_chunks(chunk(b"eXIf", exif)), "JPEG": with_segments(segment(0xE1, b"Exif\0\0" + exif))}
    data, plain = files[kind]
    stored = pixels(plain)
    assert np.array_equal(pixels(data), np.rot90(stored, -1) if turned else stored)


UNTURNED: dict[str, Callable[[], bytes]] = {
    "after the pixels of a PNG": lambda: PNG[:-12] + chunk(b"eXIf", EXIF) + END,
    "in a PNG's second": lambda: with_chunks(chunk(b"eXIf", tagged()), chunk(b"eXIf", EXIF))[0],
    "in a JPEG's second": lambda: with_segments(
        segment(0xE1, b"Exif\0\0" + tagged()), segment(0xE1, b"Exif\0\0" + EXIF)
    )[0],
    "in a PNG's text": lambda: with_chunks(chunk(b"tEXt", b"Raw profile type exif\0\nexif\n" + EXIF.hex().encode()))[0],
}


@pytest.mark.parametrize("name", UNTURNED)
def test_an_orientation_where_browsers_do_not_look_is_none(name: str) -> None:
    data = UNTURNED[name]()
    assert np.array_equal(pixels(data), pixels(PNG if data.startswith(b"\x89") else JPEG))
