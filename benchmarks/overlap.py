"""Measures whether it pays to decode the next batch while the current one is in the network.

`python -m benchmarks.overlap --photos FOLDER` prints one table: one worker alone, and one per core.
"""

import itertools
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks import quiet
from benchmarks.table import conditions, markdown
from benchmarks.variations import vary
from mlapi.service.cores import available_cores
from mlapi.tuning import throughput
from mlapi.tuning.throughput import Plan, Step, Workers
from model.ml_service import load_classifier
from model.preprocessing import preprocess
from model.settings import ModelSettings

Start = Callable[[ModelSettings, Sequence[bytes], Plan], Workers]

_PICTURES, _SIDES_PX = 64, (400, 800)
_HEADER = ("workers", "in turn, images/s", "overlapping, images/s", "ratio")


def _overlapping(settings: ModelSettings, files: Sequence[bytes]) -> Step:
    classifier, source, decoder = load_classifier(settings), itertools.cycle(files), ThreadPoolExecutor(1)
    upcoming: dict[int, Future[NDArray[np.uint8]]] = {}  # by batch size

    def decode(size: int) -> NDArray[np.uint8]:
        batch = itertools.islice(source, size)
        return np.stack([preprocess(data, classifier.manifest, settings.max_image_pixels) for data in batch])

    def step(size: int) -> None:
        pixels = upcoming.pop(size).result() if size in upcoming else decode(size)
        upcoming[size] = decoder.submit(decode, size)
        classifier.classify(pixels)

    return step


def overlapping(settings: ModelSettings, files: Sequence[bytes], plan: Plan) -> Workers:
    """Return the plan's workers, each with a second thread that decodes the next batch."""
    return Workers(partial(_overlapping, settings.model_copy(update={"threads": plan.threads}), files), plan.instances)


def measure(
    plan: Plan, settings: ModelSettings, files: Sequence[bytes], seconds: float, rounds: int, patience_s: float
) -> tuple[str, ...]:
    """Return the plan's row: the medians of both ways, which take turns."""
    with throughput.classifiers(settings, files, plan) as one, overlapping(settings, files, plan) as other:
        tries = [_try((one, other), plan.batch_size, seconds, patience_s) for _ in range(rounds)]
    in_turn, overlapped = (statistics.median(rates) for rates in zip(*tries, strict=True))
    ratio = statistics.median(second / first for first, second in tries)
    return (str(plan.instances), f"{in_turn:.0f}", f"{overlapped:.0f}", f"{ratio:.2f}")


def _try(ways: Sequence[Workers], batch_size: int, seconds: float, patience_s: float) -> list[float]:
    quiet.wait(patience_s)
    return [way.images_per_s(batch_size, seconds) for way in ways]


@click.command(context_settings={"show_default": True})
@click.option("--photos", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Else the project's dog.")
@click.option("--batch", default=4, help="How many pictures go through the network at once.")
@click.option("--seconds", default=1.0, help="How long each way is measured in a round.")
@click.option("--rounds", default=9, help="How often; the table has the medians.")
@click.option("--patience", default=10.0, help="Seconds to wait for a quiet processor before each round.")
def main(photos: Path | None, batch: int, seconds: float, rounds: int, patience: float) -> None:
    """Compare decoding and inference in turn with both at the same time, and print one table."""
    settings, files = ModelSettings.from_env(), list(vary(photos, _PICTURES, _SIDES_PX))
    plans = [Plan(instances, 1, batch) for instances in sorted({1, available_cores()})]
    print(markdown(_HEADER, [measure(plan, settings, files, seconds, rounds, patience) for plan in plans]))
    print(f"\n{conditions()}. Batches of {batch}, one thread of the engine in each worker.")


if __name__ == "__main__":
    main()
