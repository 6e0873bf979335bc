"""A part of a picture is resized, with the same result by SIMD and by Pillow."""

from importlib.util import find_spec

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model import resizing
from model.manifest import Interpolation
from model.resizing import Box, resize, with_pillow
from model.tests.conftest import DOG

FILTERS: list[Interpolation] = ["bilinear", "bicubic", "lanczos", "box"]


@pytest.fixture
def dog() -> Image.Image:
    """729 x 486 pixels."""
    return Image.open(DOG).convert("RGB")


@pytest.fixture(params=["SIMD", "Pillow"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "Pillow":
        monkeypatch.setattr(resizing, "simd", None)
    elif not find_spec("cykooz_resizer"):
        pytest.skip("there is no package for SIMD on this machine")
    return str(request.param)


def levels_apart(seen: NDArray[np.uint8], expected: NDArray[np.uint8]) -> NDArray[np.int16]:
    assert (seen.dtype, seen.shape) == (expected.dtype, expected.shape)
    return np.abs(seen.astype(np.int16) - expected.astype(np.int16))


def tolerance(interpolation: Interpolation) -> int:
    """Return by how many levels rounding may change a channel; "box" includes or excludes a pixel at its edge."""
    return 6 if interpolation == "box" else 2


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("size", [(224, 200), (31, 24), (800, 600)])
@pytest.mark.parametrize("box", [(152, 30, 577, 455), (0, 0, 729, 486)])
def test_whole_pixels_become_those_of_pillow(
    kind: str, interpolation: Interpolation, size: tuple[int, int], box: tuple[int, int, int, int], dog: Image.Image
) -> None:
    part = dog.crop(box)
    expected = with_pillow(part, (0, 0, *part.size), size, interpolation)
    apart = levels_apart(resize(dog, box, size, interpolation), expected)
    assert apart.max() <= (0 if kind == "Pillow" else tolerance(interpolation))
    assert apart.mean() < 0.1


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.usefixtures("kind")
def test_a_box_may_begin_and_end_inside_a_pixel(interpolation: Interpolation, dog: Image.Image) -> None:
    box: Box = (152.25, 30.5, 577.75, 455.125)
    seen = resize(dog, box, (224, 224), interpolation)
    apart = levels_apart(seen, with_pillow(dog, box, (224, 224), interpolation))
    assert apart[3:-3, 3:-3].max() <= tolerance(interpolation)  # at the edges, Pillow sees pixels that lie outside
    assert apart.mean() < 0.1


@pytest.mark.usefixtures("kind")
def test_no_pixel_outside_the_box_is_used(dog: Image.Image) -> None:
    framed = Image.new("RGB", dog.size, "red")
    framed.paste(dog.crop((100, 50, 500, 450)), (100, 50))
    box: Box = (100, 50, 500, 450)
    assert np.array_equal(resize(framed, box, (64, 64), "lanczos"), resize(dog, box, (64, 64), "lanczos"))


def test_nearest_pixels_are_pillows(dog: Image.Image) -> None:
    expected = np.asarray(dog.resize((224, 224), Image.Resampling.NEAREST))
    assert np.array_equal(resize(dog, (0, 0, *dog.size), (224, 224), "nearest"), expected)
