"""Measures the images per second of several processes that each work through batches as a worker does."""

import itertools
import signal
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np

from model.ml_service import load_classifier
from model.preprocessing import preprocess
from model.settings import ModelSettings

BATCH_SIZES = (1, 2, 4, 8, 16)

# Works through one batch of the given size.
Step = Callable[[int], object]


@dataclass(frozen=True, slots=True, order=True)
class Plan:
    """A way to use the cores: the number of workers, the threads of each, and the batch size."""

    instances: int
    threads: int
    batch_size: int

    def __str__(self) -> str:
        return f"{self.instances} x {self.threads} x {self.batch_size}"


@dataclass(frozen=True, slots=True)
class Speed:
    """A plan's measurement: images/s of all workers together, and the milliseconds of one batch."""

    plan: Plan
    images_per_s: float
    batch_ms: float


class Workers:
    """Processes that measure, each with its own step; `prepare` creates it there, so it must be picklable."""

    def __init__(self, prepare: Callable[[], Step], count: int) -> None:
        self._processes = [ProcessPoolExecutor(1, get_context("spawn"), _start, (prepare,)) for _ in range(count)]

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.shutdown(cancel_futures=True)

    def images_per_s(self, batch_size: int, seconds: float) -> float:
        """Return the images/s of all processes working at the same time for this long, at least a batch each."""
        self._rates(batch_size, 0)  # warms up the engine for this size
        return sum(self._rates(batch_size, seconds))

    def _rates(self, batch_size: int, seconds: float) -> list[float]:
        futures = [process.submit(_measure, batch_size, seconds) for process in self._processes]
        return [future.result() for future in futures]


def plans(cores: int) -> list[Plan]:
    """Return the plans to try: one thread per core, from many narrow workers to a single wide one."""
    widths = sorted({*itertools.takewhile(lambda width: width < cores, (2**n for n in itertools.count())), cores})
    return [Plan(cores // threads, threads, size) for threads in widths for size in BATCH_SIZES]


def classifiers(settings: ModelSettings, files: Sequence[bytes], plan: Plan) -> Workers:
    """Return the plan's workers, which decode and classify these files, without HTTP and queue."""
    shaped = settings.model_copy(update={"threads": plan.threads})
    return Workers(partial(_classifying, shaped, files), plan.instances)


def measurements(
    start: Callable[[Plan], Workers], candidates: Iterable[Plan], seconds: float, rounds: int
) -> Iterator[tuple[Plan, float]]:
    """Yield each candidate's images/s in every round; they alternate, since the machine's other load varies."""
    by_shape = [list(same) for _, same in itertools.groupby(candidates, lambda plan: (plan.instances, plan.threads))]
    for _, same in itertools.product(range(rounds), by_shape):
        with start(same[0]) as workers:
            for plan in same:
                yield plan, workers.images_per_s(plan.batch_size, seconds)


def summary(measured: Iterable[tuple[Plan, float]]) -> list[Speed]:
    """Return the median of each plan's measurements."""
    rates: dict[Plan, list[float]] = {}
    for plan, rate in measured:
        rates.setdefault(plan, []).append(rate)
    return [_speed(plan, statistics.median(tries)) for plan, tries in rates.items()]


def _speed(plan: Plan, rate: float) -> Speed:
    return Speed(plan, rate, 1000 * plan.batch_size * plan.instances / rate)


# The following runs in the child process.

_steps: list[Step] = []  # holds exactly one


def _start(prepare: Callable[[], Step]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this process
    _steps.append(prepare())


def _measure(batch_size: int, seconds: float) -> float:
    done, elapsed, started = 0, 0.0, time.perf_counter()
    while not done or elapsed < seconds:
        _steps[0](batch_size)
        done += batch_size
        elapsed = time.perf_counter() - started
    return done / elapsed


def _classifying(settings: ModelSettings, files: Sequence[bytes]) -> Step:
    classifier, source = load_classifier(settings), itertools.cycle(files)

    def classify(batch_size: int) -> None:
        batch = itertools.islice(source, batch_size)
        pixels = [preprocess(data, classifier.manifest, settings.max_image_pixels) for data in batch]
        classifier.classify(np.stack(pixels))

    return classify
