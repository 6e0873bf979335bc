"""A picture is decoded as Chromium shows it on white, without colour profiles and gamma."""

import base64
import shutil
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from model.preprocessing import decode
from model.tests.test_bare_picture import TURNS, WHOLE, with_chunks, with_segments
from testing.image_writers import (
    CHANNELS,
    DEPTHS,
    animated_png,
    chunk,
    gif_control,
    gif_frame,
    gif_start,
    png,
    segment,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

# A channel of 16 bits is rounded there, and cut here.
TOLERANCE = 1

SHOWN_ON_WHITE = """async ([base64, type]) => {
  const bytes = Uint8Array.from(atob(base64), character => character.charCodeAt(0));
  const blob = new Blob([bytes], { type });
  const image = await createImageBitmap(blob, { colorSpaceConversion: "none" }).catch(() => null);
  if (!image) return null;
  const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
  canvas.fillStyle = "white";
  canvas.fillRect(0, 0, image.width, image.height);
  canvas.drawImage(image, 0, 0);
  const { data, width, height } = canvas.getImageData(0, 0, image.width, image.height);
  return [width, height, btoa(Array.from(data, byte => String.fromCharCode(byte)).join(""))];
}"""
MEDIA_TYPES = {b"\x89P": "image/png", b"\xff\xd8": "image/jpeg", b"GI": "image/gif"}


@pytest.fixture(scope="module")
def chromium(request: pytest.FixtureRequest) -> "Iterator[Page]":
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        stop = pytest.fail if request.config.getoption("--require-browser") else pytest.skip
        stop("no Chromium is installed")
    # The container in which a worker is tested has none.
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--force-color-profile=srgb"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=options)
        yield browser.new_page()
        browser.close()


def shown(chromium: "Page", data: bytes) -> NDArray[np.uint8]:
    """Return what Chromium shows of a file: uint8 RGB of shape (height, width, 3)."""
    found = chromium.evaluate(SHOWN_ON_WHITE, [base64.b64encode(data).decode(), MEDIA_TYPES[data[:2]]])
    assert found, "Chromium takes the file for damaged"
    width, height, pixels = found
    return np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(height, width, 4)[..., :3]


def assert_shown_alike(chromium: "Page", data: bytes) -> None:
    expected = shown(chromium, data).astype(int)
    seen = np.asarray(decode(data, 1_000_000))
    assert seen.shape == expected.shape
    assert np.abs(seen - expected).max() <= TOLERANCE


CHANCE = np.random.default_rng(0)
PALETTE = CHANCE.integers(0, 256, (256, 3), dtype=np.uint8)
KINDS = [
    pytest.param(colour_type, depth, interlaced, transparent, id=f"type {colour_type}, {depth} bits{way}{alpha}")
    for colour_type, depths in DEPTHS.items()
    for depth in depths
    for interlaced, way in [(False, ""), (True, ", interlaced")]
    for transparent, alpha in [(False, ""), (True, ", transparent")]
]


@pytest.mark.parametrize(("colour_type", "depth", "interlaced", "transparent"), KINDS)
def test_every_kind_of_png(chromium: "Page", colour_type: int, depth: int, interlaced: bool, transparent: bool) -> None:
    samples = CHANCE.integers(0, 2**depth, (19, 37, CHANNELS[colour_type]))
    samples[5:9] = key = samples[3, 4].copy()
    chunks = chunk(b"PLTE", PALETTE[: 2**depth].tobytes()) if colour_type == 3 else b""
    if transparent:
        alpha = bytes(range(0, 256, 16))[: 2**depth] if colour_type == 3 else struct.pack(f">{len(key)}H", *key)
        chunks += chunk(b"tRNS", alpha)
    assert_shown_alike(chromium, png(samples, depth, colour_type, interlaced, chunks))


COLOURS_OF_FOUR, ALPHA = chunk(b"PLTE", PALETTE[:4].tobytes()), chunk(b"tRNS", bytes([255, 0, 200, 100]))
PALETTES: dict[str, bytes] = {
    "of too few colours": COLOURS_OF_FOUR,
    "of too few colours, the last one transparent": COLOURS_OF_FOUR + ALPHA,
    "of less alpha": COLOURS_OF_FOUR + chunk(b"tRNS", bytes(1)),
    "of more alpha": COLOURS_OF_FOUR + chunk(b"tRNS", bytes([255] * 4 + [0] * 200)),
    "of no alpha": COLOURS_OF_FOUR + chunk(b"tRNS"),
    "alpha before it": ALPHA + COLOURS_OF_FOUR,
    "alpha twice": COLOURS_OF_FOUR + ALPHA + chunk(b"tRNS", bytes(4)),
}


@pytest.mark.parametrize("name", PALETTES)
def test_every_kind_of_palette(chromium: "Page", name: str) -> None:
    indices = CHANCE.integers(0, 6, (19, 37, 1))
    assert_shown_alike(chromium, png(indices, 8, 3, chunks=PALETTES[name]))


INDICES = CHANCE.integers(0, 256, (19, 37))
GIFS: dict[str, bytes] = {
    "frame as large as the screen": gif_start(37, 19, PALETTE) + gif_frame(INDICES),
    "small frame": gif_start(50, 40, PALETTE) + gif_frame(INDICES, 5, 6),
    "small frame with transparency": gif_start(50, 40, PALETTE) + gif_control(7) + gif_frame(INDICES, 5, 6),
    "frame beyond the screen": gif_start(20, 10, PALETTE) + gif_frame(INDICES, 5, 6),
    "frame far beyond the screen": gif_start(20, 10, PALETTE) + gif_frame(INDICES, 100, 60),
    "screen of no size": gif_start(0, 0, PALETTE) + gif_frame(INDICES, 5, 6),
    "palette of the frame": gif_start(37, 19, PALETTE) + gif_frame(INDICES, palette=PALETTE[::-1].tobytes()),
    "two controls": gif_start(37, 19, PALETTE) + gif_control(3) + gif_control(7) + gif_frame(INDICES),
    "control without transparency last": gif_start(37, 19, PALETTE)
    + gif_control(3)
    + gif_control(None)
    + gif_frame(INDICES),
    "second frame": gif_start(37, 19, PALETTE) + gif_frame(INDICES) + gif_control(3) + gif_frame(INDICES[::-1]),
}


@pytest.mark.parametrize("name", GIFS)
def test_every_kind_of_gif(chromium: "Page", name: str) -> None:
    assert_shown_alike(chromium, GIFS[name] + b";")


COLOURS = CHANCE.integers(0, 256, (24, 36, 3))
ANIMATED_PNGS: dict[str, bytes] = {
    "hidden picture": animated_png(COLOURS, COLOURS[::-1], 0, 0),
    "hidden picture and a small frame": animated_png(COLOURS, COLOURS[:9, :8], 7, 5),
    "no frames": animated_png(COLOURS, COLOURS[::-1], 0, 0, frames=0),
    "too many frames": animated_png(COLOURS, COLOURS[::-1], 0, 0, frames=2**31),
}


@pytest.mark.parametrize("name", ANIMATED_PNGS)
def test_every_kind_of_animated_png(chromium: "Page", name: str) -> None:
    assert_shown_alike(chromium, ANIMATED_PNGS[name])


# Of these, Chromium makes no bitmap, though its page shows some of them.
WITHOUT_BITMAP = {
    "text between the pixels",
    "wrong checksum of the chunk of pixels",
    "no end of a PNG",
    "half an end of a PNG",
    "text cut short after the picture",
    "PNG cut short in the pixels' checksum",
    "wrong frames behind a PNG that is the first",
    "no frame where one should be",
    "frame beyond the screen",
    "no end of a JPEG",
    "half an end of a JPEG",
    "no end of a progressive JPEG",
    "zeros in the place of the end",
    "markers before the end",
    "another JPEG in the place of the end",
    "another size and scan before the end",
    "a scan cut short after the last one",
    "selection of coefficients that only progressive pictures have",
}


@pytest.mark.parametrize("name", sorted(WHOLE.keys() - WITHOUT_BITMAP))
def test_every_kind_of_damage_outside_the_pixels(chromium: "Page", name: str) -> None:
    data, _ = WHOLE[name]
    assert_shown_alike(chromium, data)


@pytest.mark.parametrize("name", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_every_kind_of_orientation(chromium: "Page", name: str, kind: str) -> None:
    exif, _ = TURNS[name]
    files = {"PNG": with_chunks(chunk(b"eXIf", exif)), "JPEG": with_segments(segment(0xE1, b"Exif\0\0" + exif))}
    assert_shown_alike(chromium, files[kind][0])
