"""Where rows are kept: a file that a later run goes on with, the screen, or a list."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Protocol

import click

from jobs import locks
from jobs.errors import SetupError
from mlapi.collection.rows import Row

_ROW_GROUP = 100_000


class ResultsError(SetupError):
    """The file of the results cannot be used; the message says why."""


class Results(Protocol):
    """Takes rows, and knows of which files it has some from earlier runs."""

    @property
    def done(self) -> Set[str]:
        """The paths that have a row since before this run."""

    def add(self, rows: Sequence[Row]) -> None:
        """Keep rows; a file has them when this returns."""

    def finish(self) -> None:
        """Leave the results as whoever reads them expects them."""


class Format(Protocol):
    """How rows are written as text."""

    header: bytes  # the first line
    begin: bytes  # what a file begins with

    def encode(self, rows: Sequence[Row]) -> bytes:
        """Return rows as lines."""

    def rows(self, lines: Iterator[str]) -> Iterator[Row]:
        """Yield each row as soon as its last line is read. Raises `ValueError` where one is none."""


class Csv:
    """Comma-separated values under a header; what is missing is empty."""

    header = begin = (",".join(Row._fields) + "\n").encode()

    def encode(self, rows: Sequence[Row]) -> bytes:
        """Return rows as lines."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue().encode()

    def rows(self, lines: Iterator[str]) -> Iterator[Row]:
        """Yield the rows that lines hold. Raises `ValueError`."""
        reader = csv.reader(lines, strict=True)
        try:
            next(reader, None)
            for path, label, score, error in reader:
                yield Row(path, label or None, float(score) if score else None, error or None)
        except csv.Error as err:
            raise (_CutOff if "unexpected end" in str(err) else ValueError)(str(err)) from err


class JsonLines:
    """An object a line; what is missing is null."""

    header = b""
    begin = b'{"path": "'

    def encode(self, rows: Sequence[Row]) -> bytes:
        """Return rows as lines."""
        return "".join(json.dumps(row._asdict(), ensure_ascii=False) + "\n" for row in rows).encode()

    def rows(self, lines: Iterator[str]) -> Iterator[Row]:
        """Yield the rows that lines hold. Raises `ValueError`."""
        for line in lines:
            try:
                yield Row(**json.loads(line))
            except TypeError as err:
                raise ValueError(str(err)) from err


class _CutOff(ValueError):
    """The last row has no end: whoever wrote it was stopped."""


class RowFile:
    """Rows appended to a text file, which one process at a time can do. Raises `ResultsError`."""

    def __init__(self, path: Path, layout: Format) -> None:
        self.path = path
        self._format = layout
        with _named(path), ExitStack() as stack:
            self._file = stack.enter_context(path.open("a+b", buffering=0))
            stack.enter_context(_locked(self._file, path))
            self.done = self._recover()
            self._closing = stack.pop_all()

    def add(self, rows: Sequence[Row]) -> None:
        """Write rows at the end of the file."""
        self._write(self._format.encode(rows))

    def finish(self) -> None:
        """Close the file."""
        self._closing.close()

    def rows(self) -> Iterator[Row]:
        """Yield all rows of the file."""
        with self.path.open("rb") as file:
            yield from self._format.rows(_lines(file))

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        with _named(self.path):
            while rest:  # a nearly full disk takes a part
                rest = rest[self._file.write(rest) :]

    def _recover(self) -> set[str]:
        """Return the paths that have a row; cut off a last row that was not written whole."""
        done, end = set[str](), 0
        with self.path.open("rb") as file:
            begin = file.read(len(self._format.begin))
            if not self._format.begin.startswith(begin):
                raise ResultsError(f"{self.path}: holds something else. Name another file.")
            file.seek(0)
            try:
                for row in self._format.rows(_lines(file)):
                    done.add(row.path)
                    end = file.tell()
            except _CutOff:
                pass
            except ValueError as err:
                raise ResultsError(f"{self.path}: after {len(done)} rows comes what is no row: {err}") from err
        self._file.truncate(end)
        if not end:
            self._write(self._format.header)
        return done


class ParquetFile:
    """A Parquet file, made in the end of the rows that were kept in a file beside it until then."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parquet = _pyarrow_parquet()
        self._there = set(self._paths())
        self._rows = RowFile(path.with_name(f"{path.name}.rows"), JsonLines())
        self.done: Set[str] = self._there | self._rows.done

    def add(self, rows: Sequence[Row]) -> None:
        """Keep rows in the file beside."""
        self._rows.add(rows)

    def finish(self) -> None:
        """Put a file with the former rows and the new ones in the place of the former one, in one step."""
        unfinished = self._path.with_name(f".{self._path.name}.unfinished")
        with _named(self._path):
            self._write(unfinished)
            unfinished.replace(self._path)
            self._rows.path.unlink()
        self._rows.finish()

    def _paths(self) -> Iterator[str]:
        """Yield the paths of the rows that are in the Parquet file."""
        if self._path.exists():
            for batch in self._batches(["path"]):
                yield from batch["path"].to_pylist()

    def _batches(self, columns: list[str] | None = None) -> Iterator[Any]:
        try:
            with self._parquet.ParquetFile(self._path) as file:
                yield from file.iter_batches(columns=columns)
        except (OSError, ValueError, LookupError) as err:
            raise ResultsError(f"{self._path}: is no Parquet file of results: {err}. Name another file.") from err

    def _write(self, path: Path) -> None:
        import pyarrow as pa  # type: ignore[import-untyped]  # it has no stubs

        text = pa.string()
        schema = pa.schema([("path", text), ("label", text), ("score", pa.float64()), ("error", text)])
        with self._parquet.ParquetWriter(path, schema) as writer:
            if self._there:
                for batch in self._batches():
                    writer.write_batch(batch)
            # Those that are there already came from the file beside, just before that could be removed.
            new = (row._asdict() for row in self._rows.rows() if row.path not in self._there)
            while rows := list(islice(new, _ROW_GROUP)):
                writer.write_table(pa.Table.from_pylist(rows, schema))


class Printed:
    """Rows on standard output, tab-separated; errors are for the summary."""

    done: Set[str] = frozenset()

    def add(self, rows: Sequence[Row]) -> None:
        """Print the rows of images that were classified."""
        for row in rows:
            if row.label is not None:
                click.echo(f"{row.path}\t{row.label}\t{row.score:.4f}")

    def finish(self) -> None:
        """Nothing is left to do."""


class Collected:
    """Rows in a list."""

    done: Set[str] = frozenset()

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(self, rows: Sequence[Row]) -> None:
        """Keep rows."""
        self.rows += rows

    def finish(self) -> None:
        """Nothing is left to do."""


# By the ending of the file's name.
OPENERS: dict[str, Callable[[Path], Results]] = {
    ".csv": lambda path: RowFile(path, Csv()),
    ".jsonl": lambda path: RowFile(path, JsonLines()),
    ".parquet": ParquetFile,
}


def _pyarrow_parquet() -> ModuleType:
    try:
        return import_module("pyarrow.parquet")
    except ModuleNotFoundError as err:
        raise ResultsError(
            "Parquet files need the package pyarrow: run `pip install 'flask-ml-api[parquet]'`, or name a file that "
            "ends in .csv or .jsonl."
        ) from err


def _lines(file: IO[bytes]) -> Iterator[str]:
    for line in iter(file.readline, b""):
        if not line.endswith(b"\n"):
            raise _CutOff
        yield line.decode()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file in what the system says of it."""
    try:
        yield
    except OSError as err:
        raise ResultsError(f"{path}: cannot be written: {err.strerror}") from err


@contextmanager
def _locked(file: IO[bytes], path: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(locks.exclusive(file, wait=False))
        except BlockingIOError as err:
            raise ResultsError(f"{path}: another `mlapi classify` writes to it") from err
        yield
