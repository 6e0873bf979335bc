"""The way of a collection: files in chunks to whoever classifies, rows to the results, in the order of the files."""

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
    """Whoever classifies several chunks of files at once."""

    chunk_size: int
    chunks_ahead: int  # how many are in work or wait for it

    def submit(self, paths: Sequence[str]) -> Future[list[Row]]:
        """Have a chunk classified."""

    def rows(self, paths: Sequence[str], submitted: Future[list[Row]]) -> list[Row]:
        """Wait for the rows of a chunk."""

    def wait_until_ready(self) -> None:
        """Return when the first chunk can be classified. Raises the `SetupError` or `ServiceError` why none can be."""

    def hurry(self) -> None:
        """Wait for nothing that is not in work, in whichever thread; called by a handler of signals."""


@dataclass(slots=True)
class Summary:
    """What came of a collection in this run, since it began.

    `error` is what has ended it, if anything has; `ignored` counts by ending the files that are taken for no images.
    """

    classified: int = 0
    failures: list[Row] = field(default_factory=list)
    error: SetupError | ServiceError | None = None
    ignored: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    _started_s: float = field(default_factory=time.perf_counter)

    @property
    def images_per_s(self) -> float:
        """How many files a second have a row now."""
        return (self.classified + len(self.failures)) / self.seconds if self.seconds else 0.0

    def add(self, rows: Sequence[Row]) -> None:
        """Count rows that were kept now."""
        failures = [row for row in rows if row.error]
        self.failures += failures
        self.classified += len(rows) - len(failures)
        self.seconds = time.perf_counter() - self._started_s


def left(paths: Iterable[str], done: Container[str]) -> Iterator[str]:
    """Yield the paths that have no row yet, each once."""
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
    """Yield chunks in their order, each when as many after it as is good are in work too."""
    waiting, rest = deque[tuple[list[str], Future[list[Row]]]](), iter(paths)
    while chunk := list(islice(rest, classifying.chunk_size)):
        waiting.append((chunk, classifying.submit(chunk)))
        if len(waiting) > classifying.chunks_ahead:
            yield waiting.popleft()
    yield from waiting
