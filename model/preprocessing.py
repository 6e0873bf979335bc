"""Turns an uploaded file into the pixels that a network takes: decoded as a person sees them, cropped, resized."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile, UnidentifiedImageError

from jobs.image_walk import JPEG_SIGNATURE
from model.bare_picture import BarePicture, ColourKey, bare_picture
from model.manifest import ModelManifest
from model.resizing import resize, with_pillow
from runtime.errors import NotAnImage, TooManyPixels

# Pillow's own limit would apply before `max_pixels`, which checks the same sizes.
Image.MAX_IMAGE_PIXELS = None

FORMATS = ("PNG", "JPEG", "GIF")

# A JPEG that is decoded at reduced size keeps a crop at least this many times as large as the network's input. With a
# smaller factor, resized pictures are sharper than the reference, and fewer are classified like it
# (docs/notes/measurements.md).
LEAST_SPARE = 2.0

# Exceptions of Pillow on damaged files. Of 660,000 files with changed bytes, all refused ones raised one of the first
# three; the others are those that its parsers could raise, by their source, over impossible values.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    LookupError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    struct.error,
    zlib.error,
)

_DAMAGED = "The image is damaged or incomplete. Open it, save it anew and send it again."

# EXIF 2.32, tag 0x0112: how to turn the stored picture upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def preprocess(
    data: bytes, manifest: ModelManifest, max_pixels: int, least_spare: float = LEAST_SPARE
) -> NDArray[np.uint8]:
    """Return the picture in `data` as uint8 RGB of shape (height, width, 3), the manifest's size.

    Channel order, mean, std and layout are left to the network's graph. Raises as `decode` does.

    `fit(decode(data))` is the reference; this is faster, and nearly always classified alike
    (docs/notes/measurements.md). A JPEG with pixels to spare is decoded at reduced size, as long as its crop stays
    `least_spare` times as large as the network's input; and if the package is installed, SIMD resizes. "nearest", which
    takes single pixels of the full picture, uses the reference.
    """
    if manifest.interpolation == "nearest":
        return fit(decode(data, max_pixels), manifest)
    with _refusing_damage():
        picture = _bare(data, max_pixels)
        image, divisor = _decode_small(picture, manifest, max_pixels, least_spare) or (_decode(picture, max_pixels), 1)
    left, top, right, bottom = crop_box((image.width * divisor, image.height * divisor), manifest)
    box = (left / divisor, top / divisor, right / divisor, bottom / divisor)
    return resize(image, box, (manifest.width, manifest.height), manifest.interpolation)


def decode(data: bytes, max_pixels: int) -> Image.Image:
    """Return the picture in a PNG, JPEG or GIF file as a person sees it: RGB, upright, on white.

    Of an animation, that is the first frame. The content determines the type. Raises `NotAnImage` if the bytes cannot
    be decoded, and `TooManyPixels`, before any pixel is decoded, if the picture has more than `max_pixels` pixels. A
    lack of memory is no damage: `MemoryError` is passed on.
    """
    with _refusing_damage():
        return _decode(_bare(data, max_pixels), max_pixels)


def fit(image: Image.Image, manifest: ModelManifest) -> NDArray[np.uint8]:
    """Return an RGB image cropped and resized to the manifest's size: uint8, shape (height, width, 3)."""
    part = image.crop(crop_box(image.size, manifest))
    return with_pillow(part, (0, 0, *part.size), (manifest.width, manifest.height), manifest.interpolation)


def crop_box(size: tuple[int, int], manifest: ModelManifest) -> tuple[int, int, int, int]:
    """Return the part of a picture of `size` (width, height) that the network sees: (left, top, right, bottom).

    The box is centred, has the aspect ratio of the network's input, and its sides are `crop` times those of the largest
    such box, all in whole pixels, rounded down. EfficientNet's reference crops the same way, except that it puts the
    larger part of an odd margin before (`_decode_and_center_crop` in preprocessing.py of tensorflow/tpu).
    """
    width, height = size
    if manifest.crop is None:
        return (0, 0, width, height)
    scale = manifest.crop * min(width / manifest.width, height / manifest.height)
    # A rounding error must not cost a pixel: 0.875 of 640 is 560, not 559.
    box_width = max(1, int(scale * manifest.width + 1e-6))
    box_height = max(1, int(scale * manifest.height + 1e-6))
    left, top = (width - box_width) // 2, (height - box_height) // 2
    return (left, top, left + box_width, top + box_height)


@contextmanager
def _refusing_damage() -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError as err:
        raise NotAnImage from err
    except _DAMAGE as err:
        raise NotAnImage(_DAMAGED) from err


def _bare(data: bytes, max_pixels: int) -> BarePicture:
    if not data:
        raise NotAnImage("The file is empty.")
    picture = bare_picture(data)
    if picture.screen:
        _check_pixels(picture.screen, max_pixels)
    return picture


def _decode_small(
    picture: BarePicture, manifest: ModelManifest, max_pixels: int, least_spare: float
) -> tuple[Image.Image, int] | None:
    """Return a JPEG as `decode` does, at 1/2, 1/4 or 1/8 of its size, and that divisor; None if that is impossible.

    JPEG stores frequencies of blocks of 8 x 8 pixels, from which fewer pixels can be computed directly. The crop may
    then begin inside a pixel, which it never does at full size.
    """
    if not picture.file.startswith(JPEG_SIGNATURE):
        return None
    try:
        divisor = _divisor(_open(picture.file, max_pixels).size, manifest, least_spare)
        return None if divisor == 1 else (_decode(picture, max_pixels, divisor), divisor)
    except _DAMAGE:
        # A lossless JPEG has no frequencies; for a damaged file, `decode` reports the problem.
        return None


def _divisor(size: tuple[int, int], manifest: ModelManifest, least_spare: float) -> int:
    """Return the divisor by which a picture of `size` can shrink while its crop stays `least_spare` times the input."""
    # A rotation, which is not known yet, may swap the sides.
    boxes = [crop_box(sides, manifest) for sides in (size, size[::-1])]
    spare = min(min((b[2] - b[0]) / manifest.width, (b[3] - b[1]) / manifest.height) for b in boxes)
    return next((divisor for divisor in (8, 4, 2) if divisor * least_spare <= spare), 1)


def _decode(picture: BarePicture, max_pixels: int, divisor: int = 1) -> Image.Image:
    image = _load(picture.file, max_pixels, divisor)
    if picture.continuation:
        continued = _load(picture.continuation, max_pixels, divisor)
        if ImageChops.difference(image, continued).getbbox():
            raise NotAnImage(_DAMAGED)
    return _upright(_on_white(image, picture), picture.orientation)


def _load(file: bytes, max_pixels: int, divisor: int) -> Image.Image:
    image = _open(file, max_pixels)
    if divisor > 1 and image.draft("RGB", (image.width // divisor, image.height // divisor)) is None:
        raise ValueError("no smaller size")
    image.load()
    return image


def _open(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    image = Image.open(BytesIO(data), formats=FORMATS)
    _check_pixels(image.size, max_pixels)
    return image


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise TooManyPixels(
            f"The image has {width} x {height} pixels; at most {max_pixels} are accepted. Make it smaller."
        )


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _on_white(image: Image.Image, picture: BarePicture) -> Image.Image:
    """Return the frame in RGB, at its position in the whole picture, on white."""
    layer, mask = _layer(image, picture)
    screen = picture.screen or image.size
    if mask is None and screen == image.size:
        return layer
    canvas = Image.new("RGB", screen, "white")
    canvas.paste(layer, picture.offset, mask)
    return canvas


def _layer(image: Image.Image, picture: BarePicture) -> tuple[Image.Image, Image.Image | None]:
    """Return a frame, and the opacity of its pixels; None if all are opaque."""
    if picture.colour_key:
        opaque = ~_is_of_colour(image, picture.colour_key, picture.file)
        return _rgb(image), Image.fromarray(opaque)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return layer, layer
    return _rgb(image), None


def _is_of_colour(image: Image.Image, key: ColourKey, file: bytes) -> NDArray[np.bool_]:
    """Return a mask of the pixels of a PNG that have a colour."""
    bands, samples = [*image.split()], key.samples
    if key.depth < 8:  # Pillow has scaled them
        bands = [image.convert("L")]
        samples = tuple(sample * 255 // (2**key.depth - 1) for sample in samples)
    elif key.depth == 16 and image.mode == "RGB":  # Pillow has dropped the low bytes
        bands += _low_bytes(file).split()
        samples = (*(sample >> 8 for sample in samples), *(sample & 255 for sample in samples))
    of_colour = np.ones(image.size[::-1], bool)
    for band, sample in zip(bands, samples, strict=True):
        of_colour &= np.asarray(band) == sample
    return of_colour


def _low_bytes(file: bytes) -> Image.Image:
    """Return the low bytes of a PNG's 16-bit colours: they would be the high ones in the other byte order."""
    image = Image.open(BytesIO(file), formats=FORMATS)
    image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]
    image.load()
    return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _eight_bits(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    # Pillow's convert() would turn every 16-bit grey above 255 white. For the channels of 16-bit colour, it takes the
    # high byte itself.
    deep = np.asarray(image).astype(np.uint16)
    return Image.fromarray((deep >> 8).astype(np.uint8)).convert("RGB")
