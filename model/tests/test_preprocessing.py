"""A file becomes the pixels that a person sees in it, or is refused with the reason."""

import random
import resource
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from model.manifest import Interpolation, ModelManifest
from model.preprocessing import LEAST_SPARE, crop_box, decode, fit, preprocess
from model.preprocessing import _divisor as divisor_of
from model.preprocessing import _open as opened
from model.resizing import resize
from runtime.errors import NotAnImage, TooLarge

MAX_PIXELS = 1_000_000


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:  # Pillow's differ by format
    """Return an image as a file that Pillow writes."""
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return one chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, colour_type: int, rows: list[bytes]) -> bytes:
    """Return a PNG file in forms that Pillow reads but cannot write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def png_16_bit(values: NDArray[np.uint16], colour_type: int) -> bytes:
    """Return a PNG file of 16 bits per channel; `values` is uint16 of shape (height, width, channels)."""
    rows = [row.astype(">u2").tobytes() for row in values]
    return png(values.shape[1], values.shape[0], 16, colour_type, rows)


def deep(image: Image.Image) -> NDArray[np.uint16]:
    """Return an image's channels scaled from 8 to 16 bits, with noise in the low byte."""
    values = np.asarray(image).astype(np.uint16).reshape(image.height, image.width, -1)
    noise = np.random.default_rng(0).integers(0, 256, values.shape, dtype=np.uint16)
    return ((values << 8) | noise).astype(np.uint16)


def grey(image: Image.Image) -> Image.Image:
    return image.convert("L").convert("RGB")


def distance(seen: Image.Image, expected: Image.Image) -> float:
    """Return the largest difference of any channel of any pixel, of 255."""
    assert (seen.mode, seen.size) == ("RGB", expected.size)
    return float(np.abs(np.asarray(seen).astype(int) - np.asarray(expected.convert("RGB")).astype(int)).max())


def half_transparent(image: Image.Image) -> Image.Image:
    """Return the image with its left half transparent; what is hidden there is green."""
    layer = image.convert("RGBA")
    layer.paste((0, 255, 0, 0), (0, 0, image.width // 2, image.height))
    return layer


def left_half_white(image: Image.Image) -> Image.Image:
    seen = image.copy()
    seen.paste("white", (0, 0, image.width // 2, image.height))
    return seen


def animation(image: Image.Image) -> bytes:
    black = Image.new("RGB", image.size)
    return encoded(image, "GIF", save_all=True, append_images=[black, black], duration=100)


def gif_with_transparency(image: Image.Image) -> bytes:
    flat = image.quantize(64)
    index = 200
    flat.paste(index, (0, 0, image.width // 2, image.height))
    return encoded(flat, "GIF", transparency=index)


def png_with_transparent_palette(image: Image.Image) -> bytes:
    flat = image.quantize(64)
    flat.paste(63, (0, 0, image.width // 2, image.height))
    return encoded(flat, "PNG", transparency=bytes([255] * 63 + [0]))


def without_adobe_marker(jpeg: bytes) -> bytes:
    start = jpeg.index(b"\xff\xee")
    length = int.from_bytes(jpeg[start + 2 : start + 4], "big")
    return jpeg[:start] + jpeg[start + 2 + length :]


def grey_with_alpha(image: Image.Image) -> Image.Image:
    return half_transparent(grey(image)).convert("LA")


Form = tuple[Callable[[Image.Image], bytes], Callable[[Image.Image], Image.Image], float]

# How a picture is stored, how it looks, and by how much a channel may differ (lossy compression, palettes).
FORMS: dict[str, Form] = {
    "JPEG": (lambda i: encoded(i, "JPEG", quality=95, subsampling=0), lambda i: i, 5),
    "progressive JPEG": (lambda i: encoded(i, "JPEG", quality=95, subsampling=0, progressive=True), lambda i: i, 5),
    "grey JPEG": (lambda i: encoded(i.convert("L"), "JPEG", quality=95), grey, 3),
    "CMYK JPEG, inverted as by Adobe": (lambda i: encoded(i.convert("CMYK"), "JPEG", quality=95), lambda i: i, 3),
    "CMYK JPEG without Adobe's marker": (
        lambda i: without_adobe_marker(encoded(i.convert("CMYK"), "JPEG", quality=95)),
        lambda i: i,
        3,
    ),
    "JPEG with a second picture": (
        lambda i: encoded(i, "MPO", save_all=True, append_images=[Image.new("RGB", i.size)], quality=95, subsampling=0),
        lambda i: i,
        5,
    ),
    "PNG": (lambda i: encoded(i, "PNG"), lambda i: i, 0),
    "grey PNG": (lambda i: encoded(i.convert("L"), "PNG"), grey, 0),
    "1-bit PNG": (lambda i: encoded(i.convert("1"), "PNG"), lambda i: i.convert("1"), 0),
    "16-bit grey PNG": (lambda i: png_16_bit(deep(i.convert("L")), 0), grey, 0),
    "16-bit RGB PNG": (lambda i: png_16_bit(deep(i), 2), lambda i: i, 0),
    "16-bit grey PNG with alpha": (
        lambda i: png_16_bit(deep(grey_with_alpha(i)), 4),
        lambda i: left_half_white(grey(i)),
        0,
    ),
    "16-bit RGBA PNG": (lambda i: png_16_bit(deep(half_transparent(i)), 6), left_half_white, 0),
    "palette PNG": (lambda i: encoded(i.quantize(64), "PNG"), lambda i: i.quantize(64), 0),
    "palette PNG with transparency": (
        png_with_transparent_palette,
        lambda i: left_half_white(i.quantize(64).convert("RGB")),
        0,
    ),
    "RGBA PNG": (lambda i: encoded(half_transparent(i), "PNG"), left_half_white, 0),
    "grey PNG with alpha": (lambda i: encoded(grey_with_alpha(i), "PNG"), lambda i: left_half_white(grey(i)), 0),
    "GIF": (lambda i: encoded(i.quantize(64), "GIF"), lambda i: i.quantize(64), 0),
    "animated GIF": (animation, lambda i: i, 20),
    "GIF with transparency": (gif_with_transparency, lambda i: left_half_white(i.quantize(64).convert("RGB")), 0),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_picture_is_decoded_as_a_person_sees_it(form: str, picture: Image.Image) -> None:
    store, see, tolerance = FORMS[form]
    assert distance(decode(store(picture), MAX_PIXELS), see(picture)) <= tolerance


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("orientation", "stored_as"),
    [
        (1, lambda i: i),
        (2, lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        (3, lambda i: i.rotate(180)),
        (4, lambda i: i.transpose(Image.Transpose.FLIP_TOP_BOTTOM)),
        (5, lambda i: i.transpose(Image.Transpose.FLIP_TOP_BOTTOM).rotate(-90, expand=True)),
        (6, lambda i: i.rotate(90, expand=True)),
        (7, lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(-90, expand=True)),
        (8, lambda i: i.rotate(-90, expand=True)),
    ],
)
def test_a_photo_is_turned_as_its_camera_was_held(
    orientation: int, stored_as: Callable[[Image.Image], Image.Image], kind: str, picture: Image.Image
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = encoded(stored_as(picture), kind, exif=exif, quality=95, subsampling=0)
    assert distance(decode(stored, MAX_PIXELS), picture) <= 5


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(orientation: int, picture: Image.Image) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    assert distance(decode(encoded(picture, "PNG", exif=exif), MAX_PIXELS), picture) == 0


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of what is wrong with the metadata
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*", b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40])
def test_a_picture_whose_metadata_alone_are_damaged_is_decoded(exif: bytes, picture: Image.Image) -> None:
    stored = encoded(picture, "JPEG", exif=exif, quality=95, subsampling=0)
    assert distance(decode(stored, MAX_PIXELS), picture) <= 5


def test_partly_transparent_colours_are_mixed_with_white() -> None:
    stored = encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 51)), "PNG")
    assert decode(stored, MAX_PIXELS).getpixel((0, 0)) == (204, 204, 204)


BAD_FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "The file is empty"),
    "one byte": (lambda _: b"\xff", "not a PNG, JPEG or GIF image"),
    "text": (lambda _: b"hello, I am a picture", "not a PNG, JPEG or GIF image"),
    "HTML": (lambda _: b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", "not a PNG, JPEG or GIF image"),
    "another format": (lambda _: encoded(Image.new("RGB", (9, 9)), "BMP"), "not a PNG, JPEG or GIF image"),
    "a JPEG's first bytes": (lambda photo: photo[:20], "damaged or incomplete"),
    "half a JPEG": (lambda photo: photo[: len(photo) // 2], "damaged or incomplete"),
    "half a PNG": (lambda _: encoded(Image.effect_noise((99, 99), 50), "PNG")[:3000], "damaged or incomplete"),
    "half a GIF": (lambda _: encoded(Image.effect_noise((99, 99), 50), "GIF")[:3000], "damaged or incomplete"),
    "a PNG without pixels": (lambda _: png(9, 9, 8, 2, []), "damaged or incomplete"),
    "a PNG of width 0": (lambda _: png(0, 9, 8, 2, []), "not a PNG, JPEG or GIF image"),
    "a GIF without a frame": (lambda _: b"GIF89a\1\0\1\0\0\0\0;", "not a PNG, JPEG or GIF image"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_with_what_is_wrong(name: str, photo: bytes) -> None:
    damage, complaint = BAD_FILES[name]
    with pytest.raises(NotAnImage, match=complaint):
        decode(damage(photo), MAX_PIXELS)


def test_a_picture_of_just_as_many_pixels_as_allowed_is_decoded() -> None:
    assert decode(encoded(Image.new("RGB", (20, 50)), "PNG"), 1000).size == (20, 50)


def gif_of_a_large_frame(width: int, height: int) -> bytes:
    """Return a GIF whose screen is 1 x 1 and whose frame is larger, up to where its pixels should begin."""
    frame = struct.pack("<HHHHB", 0, 0, width, height, 0)
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + b"," + frame + b"\x08\0;"


# None of these has any pixels: only a decoder that reads them before the size finds the file damaged.
@pytest.mark.parametrize(
    "data",
    [
        png(1001, 1000, 8, 2, []),
        png(60_000, 60_000, 8, 2, []),
        png(2**31 - 1, 2**31 - 1, 8, 2, []),
        gif_of_a_large_frame(1001, 1000),
        gif_of_a_large_frame(65_535, 65_535),
    ],
    ids=[
        "just above",
        "above Pillow's limit",
        "the largest PNG",
        "a GIF's frame",
        "a GIF's frame above Pillow's limit",
    ],
)
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(data: bytes) -> None:
    with pytest.raises(TooLarge, match="pixels"):
        decode(data, MAX_PIXELS)


def with_right_checksums(data: bytes) -> bytes:
    """Return PNG bytes whose chunks have the checksums of their changed content; other bytes as they are."""
    fixed, position = bytearray(data), 8
    while data.startswith(b"\x89PNG") and position + 12 <= len(fixed):
        end = position + 8 + int.from_bytes(fixed[position : position + 4], "big")
        if end + 4 > len(fixed):
            break
        fixed[end : end + 4] = zlib.crc32(fixed[position + 4 : end]).to_bytes(4, "big")
        position = end + 4
    return bytes(fixed)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Return the file with a few bytes changed or removed, most of them near its start, where the headers are."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 4, 16])):
        position = chance.randrange(min(len(changed), chance.choice([300, len(data)])))
        changed[position : position + 1] = chance.choice([b"", b"\0", b"\xff", b"\x01", chance.randbytes(1)])
    return with_right_checksums(bytes(changed)) if chance.random() < 0.7 else bytes(changed)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged metadata
def test_nothing_but_a_picture_or_a_refusal_comes_of_a_damaged_file(picture: Image.Image) -> None:
    files = [store(picture) for store, _, _ in FORMS.values()]
    chance = random.Random(0)  # noqa: S311  # chooses bytes to damage, no secret
    refused = 0
    for _ in range(100):
        for file in files:
            try:
                assert decode(damaged(file, chance), MAX_PIXELS).mode == "RGB"
            except (NotAnImage, TooLarge):
                refused += 1
    assert 500 < refused < 2000


@pytest.mark.parametrize(
    ("size", "crop", "box"),
    [
        ((640, 480), 1.0, (0, 0, 640, 480)),
        ((640, 240), 1.0, (160, 0, 480, 240)),
        ((64, 480), 1.0, (0, 216, 64, 264)),
        ((640, 480), 0.875, (40, 30, 600, 450)),
        ((641, 481), 0.5, (160, 120, 480, 360)),
        ((1, 1), 0.875, (0, 0, 1, 1)),
        ((1, 1000), 0.875, (0, 499, 1, 500)),
        ((640, 481), None, (0, 0, 640, 481)),
    ],
)
def test_the_crop_is_the_centred_share_of_the_largest_box_of_the_networks_shape(
    size: tuple[int, int], crop: float | None, box: tuple[int, ...], manifest: ModelManifest
) -> None:
    assert crop_box(size, replace(manifest, crop=crop)) == box


def test_every_picture_size_has_a_crop_that_pillow_takes(manifest: ModelManifest) -> None:
    chance = np.random.default_rng(0)
    for width, height, rows, columns in chance.integers(1, 40, (500, 4)):
        shape = replace(manifest, height=int(rows), width=int(columns), crop=1.0)
        assert fit(Image.new("RGB", (int(width), int(height))), shape).shape == (rows, columns, 3)


def test_squashed_nearest_pixels_are_those_of_keras(manifest: ModelManifest, photo: bytes) -> None:
    squash = replace(manifest, height=224, width=224, resize="squash", crop=None, interpolation="nearest")
    # The result of load_img(target_size=(224, 224)).
    expected = Image.open(BytesIO(photo)).convert("RGB").resize((224, 224), Image.Resampling.NEAREST)
    assert np.array_equal(preprocess(photo, squash, MAX_PIXELS), np.asarray(expected))


def test_the_crop_of_a_photo_takes_no_pixel_from_outside_it(manifest: ModelManifest, photo: bytes) -> None:
    image = Image.open(BytesIO(photo)).convert("RGB")
    assert image.size == (729, 486)
    expected = image.crop((152, 30, 152 + 425, 30 + 425)).resize((224, 224), Image.Resampling.BICUBIC)
    square = replace(manifest, height=224, width=224)
    assert np.array_equal(fit(decode(photo, MAX_PIXELS), square), np.asarray(expected))
    assert np.array_equal(preprocess(photo, square, MAX_PIXELS), resized(decode(photo, MAX_PIXELS), square))


def resized(image: Image.Image, manifest: ModelManifest) -> NDArray[np.uint8]:
    """Return the expected result of preprocessing for an image that was decoded in full."""
    box = crop_box(image.size, manifest)
    return resize(image, box, (manifest.width, manifest.height), manifest.interpolation)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos", "box"])
def test_every_interpolation_is_pillows_of_that_name(
    interpolation: Interpolation, manifest: ModelManifest, picture: Image.Image
) -> None:
    squash = replace(manifest, resize="squash", crop=None, interpolation=interpolation)
    expected = picture.resize((32, 24), Image.Resampling[interpolation.upper()])
    assert np.array_equal(fit(picture, squash), np.asarray(expected))


def test_pixels_are_bytes_of_the_networks_size(manifest: ModelManifest, photo: bytes) -> None:
    pixels = preprocess(photo, manifest, MAX_PIXELS)
    assert pixels.shape == (24, 32, 3)
    assert pixels.dtype == np.uint8


def blocky(image: Image.Image) -> Image.Image:
    """Return the image eight times as large and grainy: decoders may leave pixels out of its JPEG, and that shows."""
    smooth = np.asarray(image.resize((image.width * 8, image.height * 8), Image.Resampling.BICUBIC))
    grain = np.random.default_rng(0).normal(0, 4, smooth.shape)
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


LARGE_JPEGS: dict[str, Callable[[Image.Image], bytes]] = {
    "baseline": lambda i: encoded(i, "JPEG"),
    "progressive": lambda i: encoded(i, "JPEG", progressive=True),
    "grey": lambda i: encoded(i.convert("L"), "JPEG"),
    "CMYK": lambda i: encoded(i.convert("CMYK"), "JPEG"),
    "with a second picture": lambda i: encoded(i, "MPO", save_all=True, append_images=[Image.new("RGB", i.size)]),
    "of odd sides": lambda i: encoded(i.crop((0, 0, i.width - 3, i.height - 5)), "JPEG"),
}


@pytest.mark.parametrize("name", LARGE_JPEGS)
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("squash", [False, True])
def test_a_large_jpeg_is_prepared_from_fewer_pixels_as_from_all(
    name: str, orientation: int, squash: bool, manifest: ModelManifest, picture: Image.Image
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = with_exif(LARGE_JPEGS[name](blocky(picture)), exif)
    fitting = replace(manifest, resize="squash", crop=None) if squash else manifest
    seen = preprocess(data, fitting, MAX_PIXELS).astype(int)
    expected = fit(decode(data, MAX_PIXELS), fitting)
    assert 0 < np.abs(seen - expected).max() < 16
    assert np.abs(seen - expected).mean() < 2


def with_exif(jpeg: bytes, exif: Image.Exif) -> bytes:
    """Return the JPEG file with metadata, and without those it may have had at its start."""
    content = b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + jpeg[2:]


@pytest.mark.parametrize("size", [(896, 896), (895, 1000), (1350, 900), (3000, 2000), (4032, 3024)])
def test_no_jpeg_is_decoded_smaller_than_twice_what_the_network_takes(
    size: tuple[int, int], manifest: ModelManifest
) -> None:
    square = replace(manifest, height=224, width=224, crop=1.0)
    divisor = divisor_of(size, square, LEAST_SPARE)
    assert min(size) / divisor >= LEAST_SPARE * 224 or divisor == 1
    assert divisor == 8 or min(size) / (2 * divisor) < LEAST_SPARE * 224


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_pictures_other_than_jpegs_are_decoded_in_full(
    kind: str, manifest: ModelManifest, picture: Image.Image
) -> None:
    data = encoded(blocky(picture), kind)
    assert np.array_equal(preprocess(data, manifest, MAX_PIXELS), resized(decode(data, MAX_PIXELS), manifest))


def test_a_large_jpeg_is_squashed_to_keras_own_nearest_pixels(manifest: ModelManifest, picture: Image.Image) -> None:
    data = encoded(blocky(picture), "JPEG")
    squash = replace(manifest, resize="squash", crop=None, interpolation="nearest")
    assert np.array_equal(preprocess(data, squash, MAX_PIXELS), fit(decode(data, MAX_PIXELS), squash))


def lossless_jpeg(levels: NDArray[np.uint8]) -> bytes:
    """Return a grey JPEG of the kind that stores differences, not frequencies (ITU-T T.81, annex H)."""
    values = levels.astype(int)
    predicted = np.full_like(values, 128)
    predicted[:, 1:] = values[:, :-1]
    predicted[1:, 0] = values[:-1, 0]
    bits = "".join(map(coded, (values - predicted).ravel().tolist()))
    bits += "1" * (-len(bits) % 8)
    pixels = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    frame = struct.pack(">HBHHB3B", 11, 8, *values.shape, 1, 1, 0x11, 0)
    codes = struct.pack(">HB16B17B", 36, 0, *[0] * 4, 17, *[0] * 11, *range(17))
    scan = struct.pack(">HB2B3B", 8, 1, 1, 0, 1, 0, 0)
    return b"\xff\xd8\xff\xc3" + frame + b"\xff\xc4" + codes + b"\xff\xda" + scan + pixels + b"\xff\xd9"


def coded(difference: int) -> str:
    """Return a difference's number of bits, as a code of five bits, and those bits."""
    count = abs(difference).bit_length()
    return f"{count:05b}" + (
        f"{difference if difference > 0 else difference + 2**count - 1:0{count}b}" if count else ""
    )


def test_a_lossless_jpeg_which_has_no_smaller_size_is_decoded_in_full(
    manifest: ModelManifest, picture: Image.Image
) -> None:
    levels = blocky(picture).convert("L")
    seen = preprocess(lossless_jpeg(np.asarray(levels)), manifest, MAX_PIXELS)
    assert np.array_equal(seen, resized(levels.convert("RGB"), manifest))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_large_jpeg_cut_short_is_refused(progressive: bool, share: float, manifest: ModelManifest) -> None:
    whole = encoded(Image.effect_noise((600, 500), 50), "JPEG", progressive=progressive)
    with pytest.raises(NotAnImage, match="damaged or incomplete"):
        preprocess(whole[: int(len(whole) * share)], manifest, MAX_PIXELS)


def test_no_limit_but_the_given_one_holds() -> None:
    """Pillow warns of 90 million pixels, and refuses 180 million."""
    file = png(20_000, 10_000, 8, 0, [])
    assert opened(file, 200_000_000).size == (20_000, 10_000)
    with pytest.raises(TooLarge, match="20000 x 10000 pixels; at most 199999999"):
        decode(file, 199_999_999)


def test_a_jpeg_of_too_many_pixels_is_refused_before_it_is_decoded(manifest: ModelManifest) -> None:
    with pytest.raises(TooLarge, match="pixels"):
        preprocess(encoded(Image.new("L", (1001, 1000)), "JPEG"), manifest, MAX_PIXELS)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged metadata
def test_nothing_but_pixels_or_a_refusal_comes_of_a_large_jpeg_that_is_damaged(
    manifest: ModelManifest, picture: Image.Image
) -> None:
    files = [store(picture.resize((256, 192))) for store in LARGE_JPEGS.values()]
    chance = random.Random(0)  # noqa: S311  # chooses bytes to damage, no secret
    refused = 0
    for _ in range(150):
        for file in files:
            try:
                assert preprocess(damaged(file, chance), manifest, MAX_PIXELS).shape == (24, 32, 3)
            except (NotAnImage, TooLarge):
                refused += 1
    assert 100 < refused < 800


def _decode_with_little_memory(data: bytes) -> str:
    """Return the result of decoding an image with 20 MB more memory than is in use."""
    in_use = resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 20_000_000,) * 2)
    try:
        decode(data, 25_000_000)
    except (MemoryError, NotAnImage) as err:
        return type(err).__name__
    return "decoded"


@pytest.mark.parametrize("image_format", ["PNG", "GIF", "JPEG"])
def test_a_lack_of_memory_is_not_taken_for_damage(image_format: str) -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as own_process:
        outcome = own_process.submit(_decode_with_little_memory, encoded(Image.new("RGB", (5000, 5000)), image_format))
        assert outcome.result() == "MemoryError"
