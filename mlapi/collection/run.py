"""Sends a collection's files in chunks to a classifier, and yields their rows in the order of the files."""

import time
from collections import Counter, deque
from collections.abc import Container, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from mlapi.collection.rows import Row, as_text
from runtime.errors import ServiceError, SetupError


class Classifying(Protocol):
    """Classifies several chunks of files at once."""

    chunk_size: int
    chunks_ahead: int  # how many are in progress or queued

    def submit(self, paths: Sequence[str]) -> Future[list[Row]]:
        """Submit a chunk."""

    def rows(self, paths: Sequence[str], submitted: Future[list[Row]]) -> list[Row]:
        """Wait for the rows of a chunk."""

    def wait_until_ready(self) -> None:
        """Wait until a chunk can be classified. Raises the `SetupError` or `ServiceError` that prevents it."""

    def hurry(self) -> None:
        """Stop waiting, in any thread, for what is not in progress; called by a signal handler."""


@dataclass(slots=True)
class Summary:
    """The result of this run.

    `error` is what ended it, if anything; `ignored` counts by extension the files that are not taken for images.
    """

    classified: int = 0
    failures: list[Row] = field(default_factory=list)
    error: SetupError | ServiceError | None = None
    ignored: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    _started_s: float = field(default_factory=time.perf_counter)

    @property
    def images_per_s(self) -> float:
        """Files per second, classified or failed."""
        return (self.classified + len(self.failures)) / self.seconds if self.seconds else 0.0

    def add(self, rows: Sequence[Row]) -> None:
        """Count rows that were just stored."""
        failures = [row for row in rows if row.error]
        self.failures += failures
        self.classified += len(rows) - len(failures)
        self.seconds = time.perf_counter() - self._started_s


def left(paths: Iterable[str], done: Container[str]) -> Iterator[str]:
    """Yield the paths without a row, each once."""
    seen = set[str]()
    for path in paths:
        name = as_text(path)
        if name not in done and name not in seen:
            seen.add(name)
            yield path


def classified(paths: Iterable[str], classifying: Classifying) -> Iterator[tuple[list[str], list[Row]]]:
    """Yield chunks of files and their rows, in the order of the files."""
    for chunk, submitted in _in_work(paths, classifying):
        yield chunk, classifying.rows(chunk, submitted)


def _in_work(paths: Iterable[str], classifying: Classifying) -> Iterator[tuple[list[str], Future[list[Row]]]]:
    """Yield chunks in their order, each once enough later ones have been submitted."""
    waiting, rest = deque[tuple[list[str], Future[list[Row]]]](), iter(paths)
    while chunk := list(islice(rest, classifying.chunk_size)):
        waiting.append((chunk, classifying.submit(chunk)))
        if len(waiting) > classifying.chunks_ahead:
            yield waiting.popleft()
    yield from waiting
