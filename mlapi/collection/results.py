"""Where rows are kept: a file that a later run goes on with, the screen, or a list."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import IO, Any, Protocol

from jobs.schema import TOP_CLASSES
from mlapi.collection.rows import Row
from mlapi.terminal import echo
from runtime import locks
from runtime.errors import SetupError
from runtime.escaping import escaped

_COLUMNS = ("path", "label", "score", "error")
_ROW_GROUP = 100_000
# What a Parquet file notes beside its columns: how many classes a row has.
_TOP_K = b"top_k"


class ResultsError(SetupError):
    """The file of the results cannot be used; the message says why."""


class Results(Protocol):
    """Takes rows, and knows of which files it has some from earlier runs."""

    @property
    def done(self) -> Mapping[str, str | None]:
        """The paths that have a row since before this run, each with its label if it has one."""

    def add(self, rows: Sequence[Row]) -> None:
        """Keep rows; a file has them when this returns."""

    def finish(self) -> None:
        """Leave the results as whoever reads them expects them."""


class Format(Protocol):
    """How rows are written as text, with `top_k` classes."""

    header: bytes  # the first line
    begin: bytes  # what a file begins with

    def encode(self, rows: Sequence[Row]) -> bytes:
        """Return rows as lines."""

    def rows(self, lines: Iterator[str]) -> Iterator[Row]:
        """Yield each row as soon as its last line is read.

        Raises `ValueError` where one is none, and `_OtherTopK` where rows have another number of classes.
        """


class Csv:
    """Comma-separated values under a header; what is missing is empty."""

    begin = ",".join(_COLUMNS).encode()

    def __init__(self, top_k: int) -> None:
        self._columns = _columns(top_k)
        self.header = (",".join(self._columns) + "\n").encode()

    def encode(self, rows: Sequence[Row]) -> bytes:
        """Return rows as lines."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(map(self._cells, rows))
        return text.getvalue().encode()

    def _cells(self, row: Row) -> list[object]:
        cells = [row.path, row.label, row.score, row.error, *chain.from_iterable(row.top[1:])]
        return [*cells, *[None] * len(self._columns)][: len(self._columns)]

    def rows(self, lines: Iterator[str]) -> Iterator[Row]:
        """Yield the rows that lines hold. Raises `ValueError`."""
        reader = csv.reader(lines, strict=True)
        try:
            columns = next(reader, [])
            for cells in reader:
                if columns != self._columns:
                    raise _other_columns(columns)
                path, label, score, error = cells[: len(_COLUMNS)]
                if len(cells) != len(columns):
                    raise ValueError(f"it has {len(cells)} cells, and the header {len(columns)}")
                yield Row(path, label or None, float(score) if score else None, error or None)
        except csv.Error as err:
            raise (_CutOff if "unexpected end" in str(err) else ValueError)(str(err)) from err


def _columns(top_k: int) -> list[str]:
    """Return what a header has; further classes stand last, so that the others are where they always are."""
    return [*_COLUMNS, *(f"{what}_{place}" for place in range(2, top_k + 1) for what in ("label", "score"))]


def _other_columns(columns: list[str]) -> Exception:
    found = next((top_k for top_k in range(1, TOP_CLASSES + 1) if _columns(top_k) == columns), None)
    return _OtherTopK(found) if found else ValueError(f"the header has {', '.join(columns)}")


class JsonLines:
    """An object a line; what is missing is null."""

    header = b""
    begin = b'{"path": "'

    def __init__(self, top_k: int) -> None:
        self._top_k = top_k

    def encode(self, rows: Sequence[Row]) -> bytes:
        """Return rows as lines."""
        return "".join(json.dumps(row.as_dict(self._top_k), ensure_ascii=False) + "\n" for row in rows).encode()

    def rows(self, lines: Iterator[str]) -> Iterator[Row]:
        """Yield the rows that lines hold. Raises `ValueError`."""
        for line in lines:
            try:
                row = Row.from_dict(json.loads(line))
            except (TypeError, AttributeError) as err:
                raise ValueError(str(err)) from err
            if row.label is not None and len(row.top) != self._top_k:
                raise _OtherTopK(len(row.top))
            yield row


class _OtherTopK(Exception):
    """The rows have another number of classes than is wanted now."""

    def __init__(self, top_k: int) -> None:
        super().__init__(f"was made with --top-k {top_k}. Say that again, or name another file.")


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

    def _recover(self) -> dict[str, str | None]:
        """Return the label of each path that has a row; cut off a last row that was not written whole."""
        done, end = dict[str, str | None](), 0
        with self.path.open("rb") as file:
            begin = file.read(len(self._format.begin))
            if not self._format.begin.startswith(begin):
                raise ResultsError(f"{self.path}: holds something else. Name another file.")
            file.seek(0)
            try:
                for row in self._format.rows(_lines(file)):
                    done[row.path] = row.label and sys.intern(row.label)
                    end = file.tell()
            except _CutOff:
                pass
            except _OtherTopK as err:
                raise ResultsError(f"{self.path}: {err}") from err
            except ValueError as err:
                raise ResultsError(f"{self.path}: after {len(done)} rows comes what is no row: {err}") from err
        self._file.truncate(end)
        if not end:
            self._write(self._format.header)
        return done


class ParquetFile:
    """A Parquet file, made in the end of the rows that were kept in a file beside it until then."""

    def __init__(self, path: Path, top_k: int) -> None:
        self._path = path
        self._top_k = top_k
        self._parquet = _pyarrow_parquet()
        self._there = dict(self._labels())
        self._rows = RowFile(path.with_name(f"{path.name}.rows"), JsonLines(top_k))
        self.done: Mapping[str, str | None] = self._there | self._rows.done

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

    def _labels(self) -> Iterator[tuple[str, str | None]]:
        """Yield the path and the label of each row that is in the Parquet file."""
        if self._path.exists():
            for batch in self._batches(["path", "label"]):
                if (top_k := int((batch.schema.metadata or {}).get(_TOP_K, 1))) != self._top_k:
                    raise ResultsError(f"{self._path}: {_OtherTopK(top_k)}")
                yield from zip(batch["path"].to_pylist(), batch["label"].to_pylist(), strict=True)

    def _batches(self, columns: list[str] | None = None) -> Iterator[Any]:
        try:
            with self._parquet.ParquetFile(self._path) as file:
                yield from file.iter_batches(columns=columns)
        except (OSError, ValueError, LookupError) as err:
            raise ResultsError(f"{self._path}: is no Parquet file of results: {err}. Name another file.") from err

    def _write(self, path: Path) -> None:
        with self._parquet.ParquetWriter(path, schema := _schema(self._top_k)) as writer:
            if self._there:
                for batch in self._batches():
                    writer.write_batch(batch)
            # Those that are there already came from the file beside, just before that could be removed.
            new = (row.as_dict(self._top_k) for row in self._rows.rows() if row.path not in self._there)
            while rows := list(islice(new, _ROW_GROUP)):
                writer.write_table(_pyarrow().Table.from_pylist(rows, schema))


def _schema(top_k: int) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return the columns of a Parquet file, and how many classes a row of it has."""
    pa = _pyarrow()
    fields = [("path", pa.string()), ("label", pa.string()), ("score", pa.float64()), ("error", pa.string())]
    if top_k > 1:
        fields.append(("top", pa.list_(pa.struct([("label", pa.string()), ("score", pa.float64())]))))
    return pa.schema(fields, {_TOP_K: str(top_k)})


class Printed:
    """Rows on standard output, tab-separated; errors are for the summary."""

    done: Mapping[str, str | None] = MappingProxyType({})

    def __init__(self, top_k: int) -> None:
        self._top_k = top_k

    def add(self, rows: Sequence[Row]) -> None:
        """Print the rows of images that were classified."""
        for row in rows:
            if row.label is not None:
                classes = (f"{escaped(each.label)}\t{each.score:.4f}" for each in row.top[: self._top_k])
                say(echo, "\t".join([escaped(row.path), *classes]))

    def finish(self) -> None:
        """Nothing is left to do."""


class Collected:
    """Rows in a list."""

    done: Mapping[str, str | None] = MappingProxyType({})

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(self, rows: Sequence[Row]) -> None:
        """Keep rows."""
        self.rows += rows

    def finish(self) -> None:
        """Nothing is left to do."""


# By the ending of the file's name; each is told how many classes a row has.
OPENERS: dict[str, Callable[[Path, int], Results]] = {
    ".csv": lambda path, top_k: RowFile(path, Csv(top_k)),
    ".jsonl": lambda path, top_k: RowFile(path, JsonLines(top_k)),
    ".parquet": ParquetFile,
}


def _pyarrow() -> ModuleType:
    return import_module("pyarrow")


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


def say(how: Callable[[str], None], line: str) -> None:
    """Print a line. Raises `ResultsError` where that is not possible, but what comes of a pipe that nobody reads."""
    try:
        how(line)
    except BrokenPipeError:
        raise
    except OSError as err:
        raise ResultsError(f"standard output: cannot be written: {err.strerror}") from err


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
