"""Selects and reads the pictures for calibration and comparison, as a worker reads them."""

import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlapi.collection import paths, sorting
from mlapi.collection.files import MOST_BYTES_OF_PIXEL, Files
from model.manifest import LABELS, ModelManifest
from model.preprocessing import preprocess
from runtime.errors import ServiceError, SetupError


@dataclass(frozen=True, slots=True)
class Picture:
    """A file's pixels, uint8 RGB of shape (height, width, 3), and the SHA-256 of its bytes."""

    path: str
    digest: bytes
    pixels: NDArray[np.uint8]


def find(folder: Path) -> list[str]:
    """Return the paths of the images in a folder and its subfolders, shuffled, but always in the same way.

    Sorted, the first would all be of one class. Raises `SetupError` if there are none.
    """
    found = list(paths.find([str(folder)]))
    if not found:
        raise SetupError(f"{folder}: has no images: files that end in {', '.join(paths.ENDINGS)}")
    random.Random(0).shuffle(found)  # noqa: S311  # mixes pictures, no secret
    return found


def read(
    names: Iterable[str], manifest: ModelManifest, max_pixels: int, without: Iterable[Picture] = ()
) -> Iterator[Picture]:
    """Yield the pictures as a worker sees them.

    Leaves out unreadable files, duplicates of earlier ones, and those with the bytes of a picture in `without`.
    """
    files, seen = Files(MOST_BYTES_OF_PIXEL * max_pixels), {picture.digest for picture in without}
    for path in names:
        try:
            data = files.get(path)
            picture = Picture(path, hashlib.sha256(data).digest(), preprocess(data, manifest, max_pixels))
        except ServiceError:
            continue
        if picture.digest not in seen:
            seen.add(picture.digest)
            yield picture


def halves(found: Sequence[Picture], samples: int, folder: Path) -> tuple[Sequence[Picture], Sequence[Picture]]:
    """Return the pictures to calibrate with, and as many others to compare with. Raises `SetupError`."""
    if not found:
        raise SetupError(f"{folder}: none of its images can be read: they have to be PNG, JPEG or GIF")
    if len(found) < 2 * samples:
        advice = f", or say --samples {len(found) // 2}" if len(found) > 1 else ""
        raise SetupError(
            f"{folder}: has {len(found)} different images that can be read, and {2 * samples} are needed, {samples} to"
            f" calibrate with and {samples} to compare with: add images{advice}"
        )
    return found[:samples], found[samples : 2 * samples]


def labelled(folder: Path, manifest: ModelManifest) -> dict[str, str]:
    """Return the correct label of each image, by path, from a folder with a subfolder for each class.

    The subfolders are named as by `mlapi classify --copy-into` and `mlapi feedback export`. Raises `SetupError` if one
    is named like no class of the model, or there are no images.
    """
    labels = {sorting.folder_name(label): label for label in manifest.labels}
    folders = [child for child in sorted(folder.iterdir()) if child.is_dir() and not child.name.startswith(".")]
    if unknown := [child.name for child in folders if child.name not in labels]:
        raise SetupError(
            f"{folder}: these folders are called like no class of the model: {', '.join(unknown)}; its classes are in"
            f" {manifest.folder / LABELS}"
        )
    right = {path: labels[child.name] for child in folders for path in paths.find([str(child)])}
    if not right:
        raise SetupError(f"{folder}: has no images in folders that are called like classes")
    return right
