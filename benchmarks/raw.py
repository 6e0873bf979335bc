"""The limit: the rate of model workers on the same pictures without HTTP or queue.

They decode, preprocess and infer with the service's own code, engine and precision, each in its own process as in the
service. The best numbers of workers, threads and pictures per batch are found by trying.
"""

import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from benchmarks.load import Cell, cell
from jobs.schema import Prediction
from mlapi.service.cores import available_cores
from mlapi.tuning import throughput
from mlapi.tuning.throughput import BATCH_SIZES, Plan, Workers
from model.classifier import Classifier
from model.ml_service import load_classifier
from model.preprocessing import preprocess
from model.settings import ModelSettings
from testing import pictures
from testing.pictures import Expected

_ROUNDS = 2


def plans(cores: int) -> list[Plan]:
    """Return the plans to try: those of `mlapi tune`, and twice as many workers as cores."""
    return throughput.plans(cores) + [Plan(2 * cores, 1, size) for size in BATCH_SIZES]


class Limit:
    """The pictures, and the rates at which they can be classified here."""

    def __init__(self, files: Sequence[bytes], settings: ModelSettings) -> None:
        self._files = files
        self._settings = settings

    def find_best(self, seconds: float) -> Plan:
        """Return the fastest plan for this machine by the median of several tries; their results go to stderr."""
        tries = throughput.measurements(self.workers, plans(available_cores()), seconds, _ROUNDS)
        speeds = throughput.summary(tries)
        for speed in speeds:
            click.echo(f"  {speed.plan}: {speed.images_per_s:.0f} images/s", err=True)
        return max(speeds, key=lambda speed: speed.images_per_s).plan

    def workers(self, plan: Plan) -> Workers:
        """Return the plan's workers, ready to be measured."""
        return throughput.classifiers(self._settings, self._files, plan)

    def measure_alone(self, seconds: float) -> Cell:
        """Return the figures for one picture at a time, with the fastest number of threads."""
        each = [self._alone(threads, seconds) for threads in {1, available_cores()}]
        return min(each, key=lambda alone: alone.p50_ms)

    def _alone(self, threads: int, seconds: float) -> Cell:
        classifier = load_classifier(self._settings.model_copy(update={"threads": threads}))
        source, times_s = itertools.cycle(self._files), list[float]()
        deadline = time.perf_counter() + seconds
        while (started := time.perf_counter()) < deadline:
            self._classify(classifier, [next(source)])
            times_s.append(time.perf_counter() - started)
        return cell(times_s, sum(times_s))

    def answers(self) -> list[Expected]:
        """Return each picture's predictions, alone and in a batch."""
        classifier = load_classifier(self._settings)
        alone, together = (self._answers_by(classifier, size) for size in (1, 8))
        return [
            Expected(frozenset({one.label, other.label}), one.score) for one, other in zip(alone, together, strict=True)
        ]

    def _answers_by(self, classifier: Classifier, size: int) -> list[Prediction]:
        batches = (self._files[start : start + size] for start in range(0, len(self._files), size))
        return [answer for batch in batches for answer in self._classify(classifier, batch)]

    def _classify(self, classifier: Classifier, batch: Sequence[bytes]) -> list[Prediction]:
        pixels = [preprocess(data, classifier.manifest, self._settings.max_image_pixels) for data in batch]
        return [outcome for outcome in classifier.classify(np.stack(pixels)) if isinstance(outcome, Prediction)]


@click.command()
@click.option("--seconds", type=float, default=2.0, show_default=True, help="How long each plan is tried.")
@click.option("--photos", type=click.Path(path_type=Path), help="Folder of photos, instead of the project's dog.")
def main(seconds: float, photos: Path | None) -> None:
    """Print the limit alone: images/s of each plan (workers x threads x batch), and one image's time."""
    limit = Limit(pictures.render(photos), ModelSettings.from_env())
    best = limit.find_best(seconds)
    with limit.workers(best) as workers:
        print(f"best: {best}, {workers.images_per_s(best.batch_size, seconds):.1f} images/s")
    alone = limit.measure_alone(seconds)
    print(f"one image: p50 {alone.p50_ms:.1f} ms, p99 {alone.p99_ms:.1f} ms")


if __name__ == "__main__":
    main()
