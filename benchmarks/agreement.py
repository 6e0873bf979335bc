"""Measures how decoding fewer pixels and computing in bf16 change the answers, and the time they save.

`python -m benchmarks.agreement --photos FOLDER` makes varied JPEG files of the photos and prints one table, against the
reference: every pixel decoded, resized by Pillow, f32.
"""

import itertools
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.table import conditions, markdown
from benchmarks.variations import vary
from model.classifier import Classifier, Precision
from model.manifest import ModelManifest
from model.preprocessing import LEAST_SPARE, decode, fit, preprocess
from model.settings import ModelSettings

Scores = NDArray[np.float64]
Pixels = NDArray[np.uint8]

REFERENCE = "reference"
_SPARES = (math.inf, 2.0, 1.5, 1.0)
_PRECISIONS: Sequence[Precision] = ("f32", "bf16")

# The difference of the scores of the two best classes; below it, rounding may decide which one is the answer.
_CLEAR_MARGIN = 0.1
_BATCH, _TIMED_FILES, _TIMED_ROUNDS = 8, 40, 5

_HEADER = (
    *("a JPEG is decoded", "arithmetic", "ms to decode and resize", "same class"),
    *("of clear ones", "largest score difference", "mean"),
)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many pictures have the reference's class, in all and of clear ones, and the error of that class's score."""

    same: int
    count: int
    clear_same: int
    clear: int
    largest: float
    mean: float


def compare(reference: Scores, other: Scores) -> Agreement:
    """Return how scores, of shape (pictures, classes), agree with the reference's."""
    best = reference.argmax(axis=1)
    second, first = np.sort(reference, axis=1)[:, -2:].T
    same, clear = other.argmax(axis=1) == best, first - second > _CLEAR_MARGIN
    apart = np.abs(other - reference)[np.arange(len(best)), best]
    return Agreement(
        int(same.sum()), len(best), int((same & clear).sum()), int(clear.sum()), float(apart.max()), float(apart.mean())
    )


def decoders(manifest: ModelManifest, max_pixels: int) -> dict[str, Callable[[bytes], Pixels]]:
    """Return the decoders to compare: the reference, and the service's with more or fewer pixels decoded."""
    ways: dict[str, Callable[[bytes], Pixels]] = {REFERENCE: lambda data: fit(decode(data, max_pixels), manifest)}
    for spare in _SPARES:
        ways[_name(spare)] = partial(preprocess, manifest=manifest, max_pixels=max_pixels, least_spare=spare)
    return ways


def _name(spare: float) -> str:
    name = "in full" if spare == math.inf else f"at {spare:g} x the input or more"
    return f"{name}, the default" if spare == LEAST_SPARE else name


def decode_ms(ways: Sequence[Callable[[bytes], Pixels]], files: Sequence[bytes]) -> list[float]:
    """Return the median processor time of every decoder per file; the decoders take turns."""
    rounds = [[_processor_ms(way, files) for way in ways] for _ in range(_TIMED_ROUNDS)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def _processor_ms(way: Callable[[bytes], Pixels], files: Sequence[bytes]) -> float:
    started = time.process_time()
    for file in files:
        way(file)
    return 1000 * (time.process_time() - started) / len(files)


def measure(files: Sequence[bytes], settings: ModelSettings) -> str:
    """Return the table."""
    manifest = ModelManifest.load(settings.model)
    ways = decoders(manifest, settings.max_image_pixels)
    times = dict(zip(ways, decode_ms(list(ways.values()), files[:_TIMED_FILES]), strict=True))
    pixels = {name: np.stack([way(file) for file in files]) for name, way in ways.items()}
    classifiers = {precision: Classifier.load(manifest, precision=precision) for precision in _PRECISIONS}
    scores = {
        (precision, name): _scores(classifiers[precision], pixels[name])
        for precision, name in itertools.product(classifiers, pixels)
    }
    found = {key: compare(scores["f32", REFERENCE], each) for key, each in scores.items()}
    return markdown(_HEADER, [_row(name, precision, times[name], each) for (precision, name), each in found.items()])


def _scores(classifier: Classifier, pixels: Pixels) -> Scores:
    batches = (pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH))
    return np.concatenate([classifier.scores(batch) for batch in batches])


def _row(name: str, precision: str, ms: float, found: Agreement) -> tuple[str, ...]:
    same, clear = f"{found.same} of {found.count}", f"{found.clear_same} of {found.clear}"
    return (name, precision, f"{ms:.2f}", same, clear, f"{found.largest:.3f}", f"{found.mean:.4f}")


@click.command(context_settings={"show_default": True})
@click.option("--photos", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Else the project's dog.")
@click.option("--count", default=400, help="How many pictures are made of them.")
@click.option("--sides", nargs=2, type=int, default=(400, 800), help="Their longer sides in pixels, from and to.")
def main(photos: Path | None, count: int, sides: tuple[int, int]) -> None:
    """Compare the answers of decoding fewer pixels, and of bf16, with the reference's, and print one table."""
    files, settings = list(vary(photos, count, sides)), ModelSettings.from_env()
    kilobytes = sum(map(len, files)) / len(files) / 1000
    print(measure(files, settings))
    print(f"\n{conditions()}. {count} JPEGs of {sides[0]} to {sides[1]} pixels, {kilobytes:.0f} KB on average.")


if __name__ == "__main__":
    main()
