"""`mlapi tune`: tries how this machine's cores serve the model best, and keeps the best as settings."""

import io
import itertools
import random
import signal
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import dotenv
import numpy as np
from PIL import Image

from jobs.errors import ServiceError, SetupError
from model.classifier import Classifier
from model.manifest import ModelManifest
from model.ml_service import load_classifier
from model.preprocessing import preprocess
from model.settings import ModelSettings

BATCH_SIZES = (1, 2, 4, 8, 16)
ROUNDS = 5

# What is faster by less than this may be so by chance; then the smaller batch is better, since its images wait less.
_WORTHWHILE = 0.03
_PICTURES = 40


@dataclass(frozen=True, slots=True, order=True)
class Plan:
    """A way to use the cores: so many workers, each with so many threads, and batches of one size."""

    instances: int
    threads: int
    batch_size: int


@dataclass(frozen=True, slots=True)
class Speed:
    """What a plan did: images/s of all workers together, and the milliseconds of one batch."""

    plan: Plan
    images_per_s: float
    batch_ms: float


def plans(cores: int) -> list[Plan]:
    """Return what is tried: a thread for every core, in many narrow workers up to a single wide one."""
    widths = sorted({*itertools.takewhile(lambda width: width < cores, (2**n for n in itertools.count())), cores})
    return [Plan(cores // threads, threads, size) for threads in widths for size in BATCH_SIZES]


def measurements(
    settings: ModelSettings, candidates: Sequence[Plan], files: Sequence[bytes], seconds: float
) -> Iterator[tuple[Plan, float]]:
    """Yield each candidate's images/s, `ROUNDS` times; they take turns, since a machine is not always as quiet."""
    shapes = sorted({(plan.instances, plan.threads) for plan in candidates}, reverse=True)
    for _, (instances, threads) in itertools.product(range(ROUNDS), shapes):
        with ExitStack() as stack:
            shaped = settings.model_copy(update={"threads": threads})
            workers = [stack.enter_context(_worker(shaped, files)) for _ in range(instances)]
            for plan in candidates:
                if (plan.instances, plan.threads) == (instances, threads):
                    yield plan, _images_per_s(workers, plan.batch_size, seconds)


def summary(measured: Sequence[tuple[Plan, float]]) -> list[Speed]:
    """Return the median of each plan's measurements."""
    rates: dict[Plan, list[float]] = {}
    for plan, rate in measured:
        rates.setdefault(plan, []).append(rate)
    return [_speed(plan, statistics.median(tries)) for plan, tries in rates.items()]


def _speed(plan: Plan, rate: float) -> Speed:
    return Speed(plan, rate, 1000 * plan.batch_size * plan.instances / rate)


def best(speeds: Sequence[Speed]) -> Speed:
    """Return the fastest plan, or one as good as that whose batch takes less time."""
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
    """Set these variables in a file of `KEY=VALUE` lines, and leave its other lines. Raises `SetupError`."""
    try:
        file.touch()
        for key, value in settings.items():
            dotenv.set_key(file, key, value, quote_mode="never")
    except OSError as err:
        raise SetupError(f"{file}: cannot be written: {err.strerror}") from err


def pictures(folder: Path | None, settings: ModelSettings) -> list[bytes]:
    """Return the files to measure with: a folder's, as far as they can be classified, or made-up photos.

    Raises `SetupError` where the folder has none.
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
    """Return a JPEG of 400 to 800 pixels and some 80 KB: coarse patches and fine noise, as photos have them."""
    chance, noise = random.Random(number), np.random.default_rng(number)  # noqa: S311  # makes pictures, no secret
    size = chance.randint(400, 800), chance.randint(400, 800)
    patches = Image.fromarray(noise.integers(0, 256, (24, 24, 3), dtype=np.uint8)).resize(size)
    grain = noise.normal(0, 4, (size[1], size[0], 3))
    file = io.BytesIO()
    Image.fromarray((np.asarray(patches) + grain).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


# Each worker is a process, as in the service, and classifies what it holds without HTTP and queue.


def _worker(settings: ModelSettings, files: Sequence[bytes]) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, get_context("spawn"), _start, (settings, files))


def _images_per_s(workers: Sequence[ProcessPoolExecutor], batch_size: int, seconds: float) -> float:
    _results([worker.submit(_measure, batch_size, 0) for worker in workers])  # the engine prepares for the size
    return sum(_results([worker.submit(_measure, batch_size, seconds) for worker in workers]))


def _results(futures: Sequence[Future[float]]) -> list[float]:
    return [future.result() for future in futures]


class _Loop:
    """Classifies the same files over and over."""

    def __init__(self, classifier: Classifier, files: Sequence[bytes], max_pixels: int) -> None:
        self._classifier = classifier
        self._files = itertools.cycle(files)
        self._max_pixels = max_pixels

    def images_per_s(self, batch_size: int, seconds: float) -> float:
        """Classify for this long, at least one batch."""
        done, elapsed, started = 0, 0.0, time.perf_counter()
        while not done or elapsed < seconds:
            self._step(batch_size)
            done += batch_size
            elapsed = time.perf_counter() - started
        return done / elapsed

    def _step(self, batch_size: int) -> None:
        batch = itertools.islice(self._files, batch_size)
        pixels = [preprocess(data, self._classifier.manifest, self._max_pixels) for data in batch]
        self._classifier.classify(np.stack(pixels))


_loops: list[_Loop] = []  # the child process's one


def _start(settings: ModelSettings, files: Sequence[bytes]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this process
    _loops.append(_Loop(load_classifier(settings), files, settings.max_image_pixels))


def _measure(batch_size: int, seconds: float) -> float:
    return _loops[0].images_per_s(batch_size, seconds)
