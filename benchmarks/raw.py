"""The limit: what one process does on the same pictures without HTTP or queue.

It decodes, preprocesses and infers with the model workers' own code, engine and precision. How it uses the cores best
(how many streams, threads of a stream, pictures in a batch) is found by trying; a stream is a thread that decodes a
batch and runs it through a network of its own.
"""

import itertools
import signal
import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import click
import numpy as np

from benchmarks import pictures
from benchmarks.load import Cell, cell
from benchmarks.pictures import Expected
from jobs.schema import Prediction
from mlapi.cores import available_cores
from model.classifier import Classifier
from model.manifest import ModelManifest
from model.preprocessing import preprocess
from model.settings import ModelSettings

_BATCHES = (1, 2, 4, 8, 16)
_TRIES = 2


@dataclass(frozen=True, slots=True, order=True)
class Plan:
    """A way to use the cores."""

    streams: int
    threads: int
    batch: int

    def __str__(self) -> str:
        return f"{self.streams} x {self.threads} x {self.batch}"


def plans(cores: int) -> list[Plan]:
    """Return what is tried: a stream for each core, wider ones, and twice as many, with each batch size."""
    shapes = {(cores, 1), (max(1, cores // 2), min(2, cores)), (1, cores), (2 * cores, 1)}
    return [Plan(streams, threads, batch) for streams, threads in sorted(shapes) for batch in _BATCHES]


class Limit:
    """Classifies pictures with all cores, one plan at a time."""

    def __init__(self, files: Sequence[bytes], settings: ModelSettings) -> None:
        self._files = files
        self._settings = settings
        self._manifest = ModelManifest.load(settings.model)
        self._load = cache(self._load_uncached)

    def _load_uncached(self, _stream: int, threads: int) -> Classifier:
        return Classifier.load(self._manifest, threads=threads, precision=self._settings.precision)

    def find_best(self, candidates: Sequence[Plan], seconds: float) -> Plan:
        """Return the fastest plan by the median of several tries; what each did goes to stderr."""
        rates: dict[Plan, list[float]] = {plan: [] for plan in candidates}
        for _, plan in itertools.product(range(_TRIES), candidates):
            rates[plan].append(self.measure(plan, seconds))
        medians = {plan: statistics.median(tries) for plan, tries in rates.items()}
        for plan, rate in medians.items():
            click.echo(f"  {plan}: {rate:.0f} images/s", err=True)
        return max(medians, key=medians.__getitem__)

    def measure(self, plan: Plan, seconds: float) -> float:
        """Return images/s."""
        classifiers = [self._load(stream, plan.threads) for stream in range(plan.streams)]
        for classifier in classifiers:
            self._classify(classifier, self._files[: plan.batch])  # the engine prepares for a new batch size
        rates = [0.0] * plan.streams

        def work(stream: int) -> None:
            rates[stream] = self._stream(classifiers[stream], plan, stream, seconds)

        threads = [threading.Thread(target=work, args=(stream,)) for stream in range(plan.streams)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(rates)

    def _stream(self, classifier: Classifier, plan: Plan, stream: int, seconds: float) -> float:
        # Each stream begins elsewhere, so that no two decode the same file at the same time.
        own = itertools.islice(itertools.cycle(self._files), stream * len(self._files) // plan.streams, None)
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            self._classify(classifier, list(itertools.islice(own, plan.batch)))
            done += plan.batch
        return done / (time.perf_counter() - started)

    def _classify(self, classifier: Classifier, batch: Sequence[bytes]) -> list[Prediction]:
        pixels = [preprocess(data, self._manifest, self._settings.max_image_pixels) for data in batch]
        return [outcome for outcome in classifier.classify(np.stack(pixels)) if isinstance(outcome, Prediction)]

    def measure_alone(self, threads: int, seconds: float) -> Cell:
        """Return the figures for one picture at a time, all others waiting."""
        classifier, source, times_s = self._load(0, threads), itertools.cycle(self._files), []
        deadline = time.perf_counter() + seconds
        while (started := time.perf_counter()) < deadline:
            self._classify(classifier, [next(source)])
            times_s.append(time.perf_counter() - started)
        return cell(times_s, sum(times_s))

    def answers(self) -> list[Expected]:
        """Return what each picture is classified as, alone and among others."""
        classifier = self._load(0, 1)
        alone, together = (self._answers_by(classifier, size) for size in (1, 8))
        return [
            Expected(frozenset({one.label, other.label}), one.score) for one, other in zip(alone, together, strict=True)
        ]

    def _answers_by(self, classifier: Classifier, size: int) -> list[Prediction]:
        batches = (self._files[start : start + size] for start in range(0, len(self._files), size))
        return [answer for batch in batches for answer in self._classify(classifier, batch)]


class LimitProcess:
    """A `Limit` in a process of its own, where it shares no interpreter with the load generator."""

    def __init__(self, files: Sequence[bytes]) -> None:
        self._process = ProcessPoolExecutor(1, get_context("spawn"), _start, (files, ModelSettings.from_env()))

    def __enter__(self) -> "LimitProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.shutdown(cancel_futures=True)

    def find_best(self, seconds: float) -> Plan:
        """Return the fastest plan for this machine."""
        return self._process.submit(_find_best, seconds).result()

    def measure(self, plan: Plan, seconds: float) -> float:
        """Return images/s."""
        return self._process.submit(_measure, plan, seconds).result()

    def measure_alone(self, seconds: float) -> Cell:
        """Return the figures for one picture at a time, with as many threads as is fastest."""
        return self._process.submit(_measure_alone, seconds).result()

    def answers(self) -> list[Expected]:
        """Return what each picture is classified as."""
        return self._process.submit(_answers).result()


_limits: list[Limit] = []  # the child process's one


def _start(files: Sequence[bytes], settings: ModelSettings) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this process
    _limits.append(Limit(files, settings))


def _find_best(seconds: float) -> Plan:
    return _limits[0].find_best(plans(available_cores()), seconds)


def _measure(plan: Plan, seconds: float) -> float:
    return _limits[0].measure(plan, seconds)


def _measure_alone(seconds: float) -> Cell:
    each = [_limits[0].measure_alone(threads, seconds) for threads in {1, available_cores()}]
    return min(each, key=lambda alone: alone.p50_ms)


def _answers() -> list[Expected]:
    return _limits[0].answers()


@click.command()
@click.option("--seconds", type=float, default=2.0, show_default=True, help="How long each plan is tried.")
@click.option("--photos", type=click.Path(path_type=Path), help="Folder of photos, instead of the project's dog.")
def main(seconds: float, photos: Path | None) -> None:
    """Print the limit alone: images/s of each plan (streams x threads x batch), and one image's time."""
    limit = Limit(pictures.render(photos), ModelSettings.from_env())
    best = limit.find_best(plans(available_cores()), seconds)
    print(f"best: {best}, {limit.measure(best, seconds):.1f} images/s")
    for threads in sorted({1, available_cores()}):
        alone = limit.measure_alone(threads, seconds)
        print(f"one image, {threads} threads: p50 {alone.p50_ms:.1f} ms, p99 {alone.p99_ms:.1f} ms")


if __name__ == "__main__":
    main()
