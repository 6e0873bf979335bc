"""Makes the pictures to send: variants of real photos, with different bytes in every request."""

import io
import itertools
import random
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from PIL import Image, ImageOps

from testing.errors import CannotRun

# Rendering one takes some 20 ms of a core that the service may need, so it is done before the run. This many give
# varied content and fit in some 30 MB.
PICTURES = 256

_DOG = Path(__file__).parent.parent / "tests" / "dog.jpeg"
_ENDINGS = {".jpg", ".jpeg", ".png", ".gif"}
_SIDES_PX = (400, 800)
# The smallest part of a photo's width and height that a crop keeps.
_SMALLEST_CROP = 0.6
# Enough to change most pixels of every variant; more would make the files larger than real photos.
_NOISE = 6
_QUALITY = 90

# A placeholder of the same length in the JPEG's comment segment for each request's serial number.
_SERIAL_LENGTH = 29
_PLACEHOLDER = b"@serial@".center(_SERIAL_LENGTH, b".")


class Upload(NamedTuple):
    """A file to upload."""

    filename: str
    data: bytes


class UniqueImages:
    """Returns the prepared pictures in turn, with different bytes every time.

    The service names and caches uploads by a hash of their content, so a picture sent twice would measure the cache. A
    serial in the file's comment segment changes the hash and costs one copy of the file; the pixels, which the model
    reads, stay those of the prepared picture. The serial begins with a random id, so that neither a second run nor a
    second process repeats an earlier file.
    """

    def __init__(self, pictures: Sequence[bytes]) -> None:
        self._pictures = itertools.cycle([_split_at_serial(picture) for picture in pictures])
        self._run_id = secrets.token_hex(8)
        self._numbers = itertools.count()

    def next(self) -> Upload:
        """Return a file that was never sent before, named by its serial number."""
        serial = f"{self._run_id}-{next(self._numbers):012d}"
        head, tail = next(self._pictures)
        return Upload(f"stress-test-{serial}.jpeg", head + serial.encode() + tail)


def prepare(folder: Path | None, count: int = PICTURES) -> UniqueImages:
    """Render variants of a folder's photos, or of this project's dog; progress goes to stderr. Raises `CannotRun`."""
    photos = find_photos(folder) if folder else [_DOG]
    pictures = render(photos, count)
    with click.progressbar(pictures, count, label=f"Preparing {count} pictures", file=sys.stderr) as progress:
        return UniqueImages(list(progress))


def find_photos(folder: Path) -> list[Path]:
    """Return the image files of a folder and its subfolders, sorted by name. Raises `CannotRun`."""
    photos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS)
    if not photos:
        raise CannotRun(f"{folder} has no photos: files that end in {', '.join(sorted(_ENDINGS))}.")
    return photos


def render(photos: Sequence[Path], count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield `count` JPEG files with different pixels; the same seed gives the same files. Raises `CannotRun`."""
    choices, noise = random.Random(seed), np.random.default_rng(seed)  # noqa: S311 - nothing secret
    # Every photo is used before one is used again.
    order = itertools.cycle(choices.sample(photos, len(photos)))
    for path in itertools.islice(order, count):
        yield _encode(_add_noise(_crop_and_scale(_open(path), choices), noise))


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as photo:
            photo.draft("RGB", (2 * _SIDES_PX[1], 2 * _SIDES_PX[1]))  # a camera's photo need not be decoded in full
            return ImageOps.exif_transpose(photo).convert("RGB")
    except (OSError, SyntaxError, ValueError) as err:
        raise CannotRun(f"{path} cannot be read as an image; move it elsewhere.") from err


def _crop_and_scale(photo: Image.Image, choices: random.Random) -> Image.Image:
    kept = choices.uniform(_SMALLEST_CROP, 1)
    width, height = photo.width * kept, photo.height * kept
    left, top = choices.uniform(0, photo.width - width), choices.uniform(0, photo.height - height)
    scale = choices.randint(*_SIDES_PX) / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return photo.resize(size, Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))


def _add_noise(picture: Image.Image, noise: np.random.Generator) -> Image.Image:
    pixels = np.asarray(picture, np.int16)
    noisy = pixels + noise.integers(-_NOISE, _NOISE, pixels.shape, np.int8, endpoint=True)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def _encode(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY, comment=_PLACEHOLDER)
    return file.getvalue()


def _split_at_serial(picture: bytes) -> tuple[bytes, bytes]:
    head, tail = picture.split(_PLACEHOLDER)
    return head, tail
