"""Classifies chunks of files in local processes, each with the network, as model workers do."""

import signal
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from itertools import islice
from multiprocessing import get_context

from mlapi.collection.files import MOST_BYTES_OF_PIXEL, Files
from mlapi.collection.rows import Row
from model.classifier import Classifier
from model.decoding_limit import DecodingLimit
from model.ml_service import load_classifier, predict
from model.settings import ModelSettings
from runtime import parent_watch
from runtime.errors import ServiceError

# Large enough that handing a chunk over costs little of its time, small enough that all end at about the same time.
_BATCHES_IN_CHUNK = 2


class EndedProcess(ServiceError):
    """The image ended its process twice: in a chunk and alone."""

    code = "ended-process"
    message = "The image ended the process that decoded it, and is left out."


class Processes:
    """Processes that classify one chunk after the other. If an image ends one of them, only that image fails."""

    def __init__(self, settings: ModelSettings, count: int) -> None:
        self.chunk_size = _BATCHES_IN_CHUNK * settings.batch_size
        self.chunks_ahead = 4 * count  # some take longer, and rows are written in order
        self._settings = settings
        self._count = count
        self._pool, self._loaded = _pool(settings, count)

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def wait_until_ready(self) -> None:
        """Wait until the network is loaded. Raises `ModelError`."""
        for loaded in self._loaded:
            loaded.result()

    def hurry(self) -> None:
        """Do nothing: the chunks in progress take only a moment."""

    def submit(self, paths: Sequence[str]) -> Future[list[Row]]:
        """Submit a chunk; `rows` waits for it."""
        try:
            return self._pool.submit(_classify, paths)
        except BrokenProcessPool:
            self._pool, _ = _pool(self._settings, self._count)
            return self._pool.submit(_classify, paths)

    def rows(self, paths: Sequence[str], submitted: Future[list[Row]]) -> list[Row]:
        """Return the rows of a chunk, in its order. Raises `ModelError`."""
        try:
            return submitted.result()
        except BrokenProcessPool:  # an image of this chunk ended it, or one of another in progress
            return [self._alone(path) for path in paths]

    def _alone(self, path: str) -> Row:
        pool, _ = _pool(self._settings, 1)
        with pool:
            try:
                return pool.submit(_classify, [path]).result()[0]
            except BrokenProcessPool:
                return Row.failed(path, EndedProcess())


def _pool(settings: ModelSettings, count: int) -> tuple[ProcessPoolExecutor, list[Future[list[Row]]]]:
    """Return processes that load the network, and futures that complete when they have."""
    pool = ProcessPoolExecutor(count, get_context("spawn"), _begin, (settings,))
    with _without_ctrl_c():
        return pool, [pool.submit(_classify, []) for _ in range(count)]


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Ignore Ctrl-C here and in processes started meanwhile, which would print a traceback."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


# The following runs in the child processes.

_settings: list[ModelSettings] = []  # holds exactly one


def _begin(settings: ModelSettings) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent to all, it is for the parent, which needs them to finish
    parent_watch.end_with_parent(signal.SIGKILL)
    warnings.filterwarnings("ignore", module="PIL")
    _settings.append(settings)


@cache
def _classifier() -> Classifier:
    return load_classifier(_settings[0])


@cache
def _limit() -> DecodingLimit:
    return DecodingLimit(_settings[0].max_decode_s)


def _classify(paths: Sequence[str]) -> list[Row]:
    classifier, settings = _classifier(), _settings[0]
    files = Files(MOST_BYTES_OF_PIXEL * settings.max_image_pixels)
    rest = iter(paths)
    rows = list[Row]()
    while batch := list(islice(rest, settings.batch_size)):
        outcomes = predict(batch, files, classifier, settings.max_image_pixels, limit=_limit())
        rows += map(Row.of, batch, outcomes)
    return rows
