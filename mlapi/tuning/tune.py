"""`mlapi tune`: finds the fastest settings for this machine's cores, and saves them."""

import io
import itertools
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import dotenv
import numpy as np
from PIL import Image

from mlapi.tuning.throughput import Plan, Speed
from model.manifest import ModelManifest
from model.preprocessing import preprocess
from model.settings import ModelSettings
from runtime.errors import ServiceError, SetupError

ROUNDS = 5

# A smaller advantage may be chance; then the smaller batch is better, since its images wait less.
_WORTHWHILE = 0.03
_PICTURES = 40


def best(speeds: Sequence[Speed]) -> Speed:
    """Return the fastest plan, or an equally good one whose batch takes less time."""
    fastest = max(speed.images_per_s for speed in speeds)
    return min(
        (speed for speed in speeds if speed.images_per_s >= (1 - _WORTHWHILE) * fastest), key=lambda s: s.batch_ms
    )


def table(speeds: Sequence[Speed]) -> str:
    """Return the measurements in Markdown, the best one in bold."""
    winner = best(speeds)
    lines = ["| workers | threads of each | batch size | images/s | ms per batch |", "|---:|---:|---:|---:|---:|"]
    return "\n".join(lines + [_row(speed, bold=speed == winner) for speed in speeds])


def _row(speed: Speed, *, bold: bool) -> str:
    plan = speed.plan
    cells = [str(plan.instances), str(plan.threads), str(plan.batch_size)]
    cells += [f"{speed.images_per_s:.0f}", f"{speed.batch_ms:.1f}"]
    return "| " + " | ".join(f"**{cell}**" if bold else cell for cell in cells) + " |"


def as_settings(plan: Plan) -> dict[str, str]:
    """Return the plan as environment variables."""
    return {
        "INSTANCES": str(plan.instances),
        "THREADS": str(plan.threads),
        "BATCH_SIZE": str(plan.batch_size),
    }


def write(settings: Mapping[str, str], file: Path) -> None:
    """Set these variables in a file of `KEY=VALUE` lines, and keep its other lines. Raises `SetupError`."""
    try:
        file.touch()
        for key, value in settings.items():
            dotenv.set_key(file, key, value, quote_mode="never")
    except OSError as err:
        raise SetupError(f"{file}: cannot be written: {err.strerror}") from err


def pictures(folder: Path | None, settings: ModelSettings) -> list[bytes]:
    """Return the images to measure with: a folder's usable ones, or generated photos.

    Raises `SetupError` if the folder has none.
    """
    if folder is None:
        return [_made_up(number) for number in range(_PICTURES)]
    manifest = ModelManifest.load(settings.model)
    candidates = (path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file())
    files = itertools.islice((data for data in candidates if _is_image(data, manifest, settings)), _PICTURES)
    found = list(files)
    if not found:
        raise SetupError(f"{folder}: has no PNG, JPEG or GIF images; name a folder of photos, or none")
    return found


def _is_image(data: bytes, manifest: ModelManifest, settings: ModelSettings) -> bool:
    try:
        preprocess(data, manifest, settings.max_image_pixels)
    except ServiceError:
        return False
    return True


def _made_up(number: int) -> bytes:
    """Return a JPEG of 400 to 800 pixels and about 80 KB, with coarse patches and fine noise like a photo."""
    chance, noise = random.Random(number), np.random.default_rng(number)  # noqa: S311  # makes pictures, no secret
    size = chance.randint(400, 800), chance.randint(400, 800)
    patches = Image.fromarray(noise.integers(0, 256, (24, 24, 3), dtype=np.uint8)).resize(size)
    grain = noise.normal(0, 4, (size[1], size[0], 3))
    file = io.BytesIO()
    Image.fromarray((np.asarray(patches) + grain).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()
