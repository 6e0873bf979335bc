"""Makes many different JPEG files of a few photos: other parts, sizes, light, noise and compression."""

import io
import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from testing.unique_images import find_photos

# The project's own photo; a folder of others gives more variety.
_DOG = Path(__file__).parent.parent / "tests" / "dog.jpeg"


def vary(folder: Path | None, count: int, sides_px: tuple[int, int], seed: int = 0) -> Iterator[bytes]:
    """Yield `count` JPEG files, their longer sides of `sides_px` (from, to); the same seed gives the same files.

    They are made of a folder's photos, each used before one is used again, or of this project's dog. A photo that is
    too small is enlarged. Raises `CannotRun` if the folder has none.
    """
    chance = random.Random(seed)  # noqa: S311  # makes pictures, no secret
    photos = itertools.cycle(find_photos(folder) if folder else [_DOG])
    for path in itertools.islice(photos, count):
        with Image.open(path) as photo:
            part = _part(ImageOps.exif_transpose(photo).convert("RGB"), sides_px, chance)
        yield _compressed(_noisy(_relit(part, chance), chance), chance)


def _part(photo: Image.Image, sides_px: Sequence[int], chance: random.Random) -> Image.Image:
    width, height = (side * chance.uniform(0.5, 1) for side in photo.size)
    left, top = chance.uniform(0, photo.width - width), chance.uniform(0, photo.height - height)
    scale = chance.randint(*sides_px) / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    part = photo.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
    return ImageOps.mirror(part) if chance.random() < 0.5 else part


def _relit(picture: Image.Image, chance: random.Random) -> Image.Image:
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhance(picture).enhance(chance.uniform(0.6, 1.4))
    return picture


def _noisy(picture: Image.Image, chance: random.Random) -> Image.Image:
    noise = np.random.default_rng(chance.getrandbits(32))
    pixels = np.asarray(picture, np.float32)
    pixels = pixels + noise.standard_normal(pixels.shape, np.float32) * chance.uniform(0, 10)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _compressed(picture: Image.Image, chance: random.Random) -> bytes:
    file = io.BytesIO()
    picture.save(
        file,
        "JPEG",
        quality=chance.randint(60, 95),
        subsampling=chance.choice(["4:2:0", "4:2:2", "4:4:4"]),
        progressive=chance.random() < 0.2,
    )
    return file.getvalue()
