"""A manifest to start from, and test pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.manifest import ModelManifest

DOG = Path(__file__).parents[2] / "tests" / "dog.jpeg"


@pytest.fixture
def manifest(tmp_path: Path) -> ModelManifest:
    """A network for 24 x 32 pixels that distinguishes four colours."""
    return ModelManifest(
        name="colours",
        version="1",
        height=24,
        width=32,
        resize="crop",
        crop=0.875,
        interpolation="bicubic",
        channels="RGB",
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
        layout="NCHW",
        logits=True,
        labels=("red", "green", "blue", "white"),
        folder=tmp_path,
    )


@pytest.fixture
def photo() -> bytes:
    """The JPEG photo of a dog."""
    return DOG.read_bytes()


@pytest.fixture
def picture() -> Image.Image:
    """64 x 48 smooth pixels of many colours, dark to the left and red to the top: any turn of it looks different."""
    down, right = np.mgrid[0:48, 0:64]
    planes = [255 - down * 5, right * 4, np.minimum(right * 3, 255 - down * 2)]
    return Image.fromarray(np.stack(planes, axis=-1).astype(np.uint8))
