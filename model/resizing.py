"""Resizes a part of a picture: with SIMD if the package is installed, else with Pillow.

cykooz.resizer, a binding of Rust's fast_image_resize, computes Pillow's filters in a quarter of the time. It has wheels
for x86-64 only.
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.manifest import Interpolation

try:
    import cykooz_resizer as simd  # type: ignore[import-untyped,import-not-found,unused-ignore]
except ImportError:
    simd = None

Box = tuple[float, float, float, float]
Pixels = NDArray[np.uint8]

# Catmull-Rom is the cubic filter with Pillow's coefficient, -0.5.
_SIMD_FILTERS = {"bilinear": "bilinear", "bicubic": "catmull_rom", "lanczos": "lanczos3", "box": "box"}


def resize(image: Image.Image, box: Box, size: tuple[int, int], interpolation: Interpolation) -> Pixels:
    """Return the part of an RGB image in `box` (left, top, right, bottom) as uint8 RGB of shape (height, width, 3).

    `size` is (width, height). The box may begin and end inside a pixel; pixels entirely outside it are not used. With
    SIMD, rounding makes a channel differ from Pillow's by one or two of 255 levels.
    """
    part, inner = _cut(image, box)
    if simd is None or interpolation not in _SIMD_FILTERS:
        return with_pillow(part, inner, size, interpolation)
    return _with_simd(part, inner, size, interpolation)


def with_pillow(image: Image.Image, box: Box, size: tuple[int, int], interpolation: Interpolation) -> Pixels:
    """Resize as `resize` does, with Pillow, the reference; pixels just outside the box may count, too."""
    return np.asarray(image.resize(size, Image.Resampling[interpolation.upper()], box), dtype=np.uint8)


def _cut(image: Image.Image, box: Box) -> tuple[Image.Image, Box]:
    """Return the whole pixels that the box touches, and the box relative to them."""
    left, top, right, bottom = box
    x, y = math.floor(left), math.floor(top)
    return image.crop((x, y, math.ceil(right), math.ceil(bottom))), (left - x, top - y, right - x, bottom - y)


def _with_simd(image: Image.Image, box: Box, size: tuple[int, int], interpolation: Interpolation) -> Pixels:
    (left, top, right, bottom), (width, height) = box, size
    # First horizontally, then vertically, as Pillow does, so that intermediate values are clipped to 0..255 alike.
    # Bytes, though the package accepts images, too: for those it relies on how Pillow lays them out in memory.
    narrow = (width, image.height)
    across = _convolved(image.tobytes(), image.size, (left, 0, right - left, image.height), narrow, interpolation)
    pixels = _convolved(across, narrow, (0, top, width, bottom - top), size, interpolation)
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)


def _convolved(
    pixels: bytes, size: tuple[int, int], crop: Box, new_size: tuple[int, int], interpolation: Interpolation
) -> bytes:
    """Return the part of an RGB image at `crop` (left, top, width, height) in another size."""
    source, target = simd.ImageData(*size, simd.PixelType.U8x3, pixels), simd.ImageData(*new_size, simd.PixelType.U8x3)
    algorithm = simd.ResizeAlg.convolution(simd.FilterType[_SIMD_FILTERS[interpolation]])
    options = simd.ResizeOptions(resize_alg=algorithm, crop_box=simd.CropBox(*crop))
    simd.Resizer().resize(source, target, options)
    return bytes(target.get_buffer())
