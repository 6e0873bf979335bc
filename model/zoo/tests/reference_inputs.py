"""The images that the converted EfficientNet-Lite0 is compared on, prepared without the code under test."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

DOG = Path(__file__).parents[3] / "tests" / "dog.jpeg"
STORED_LOGITS = Path(__file__).with_name("efficientnet_lite0_logits.npz")

Images = npt.NDArray[np.float32]


def reference_inputs() -> dict[str, Images]:
    """Return normalised images [N, 3, 224, 224] by name: the photo, noise, a gradient, and the two plain extremes."""
    noise = np.random.RandomState(7).randint(0, 256, (2, 224, 224, 3))  # RandomState: its numbers never change
    ramp = np.linspace(0, 255, 224)
    gradient = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], ramp[::-1, None]), axis=-1)
    return {
        "dog": normalised(dog_pixels()[None]),
        "noise": normalised(noise),
        "gradient": normalised(gradient[None]),
        "extremes": normalised(np.stack([np.zeros((224, 224, 3)), np.full((224, 224, 3), 255)])),
    }


def dog_pixels() -> npt.NDArray[np.uint8]:
    """Return the photo's central 7/8, resized with bicubic interpolation: RGB [224, 224, 3]."""
    with Image.open(DOG) as photo:
        side = round(min(photo.size) * 0.875)
        left, top = (photo.width - side) // 2, (photo.height - side) // 2
        square = photo.convert("RGB").crop((left, top, left + side, top + side))
        return np.asarray(square.resize((224, 224), Image.Resampling.BICUBIC))


def normalised(pixels: npt.NDArray[np.generic]) -> Images:
    """Return pixels [N, 224, 224, 3] in 0..255 as the network takes them: (pixel - 127) / 128, [N, 3, 224, 224]."""
    return np.asarray(((pixels.astype(np.float64) - 127) / 128).transpose(0, 3, 1, 2), np.float32)
