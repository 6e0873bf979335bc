"""Stores rows: in a file that a later run can resume, on the screen, or in a list."""

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
# Metadata key of a Parquet file: the number of classes per row.
_TOP_K = b"top_k"


class ResultsError(SetupError):
    """The results file cannot be used; the message says why."""


class Results(Protocol):
    """Stores rows, and knows which files have some from earlier runs."""

    @property
    def done(self) -> Mapping[str, str | None]:
        """The paths with a row from an earlier run, each with its label, if any."""

    def add(self, rows: Sequence[Row]) -> None:
        """Store rows; they are in the file when this returns."""

    def finish(self) -> None:
        """Complete the results for their readers."""


class Format(Protocol):
    """A text format for rows with `top_k` classes."""

    header: bytes  # the first line
    begin: bytes  # what a file begins with

    def encode(self, rows: Sequence[Row]) -> bytes:
        """Return rows as lines."""

    def rows(self, lines: Iterator[str]) -> Iterator[Row]:
        """Yield each row as soon as its last line is read.

        Raises `ValueError` for an invalid row, and `_OtherTopK` if rows have another number of classes.
        """


class Csv:
    """Comma-separated values under a header; missing values are empty."""

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
    """Return the header's columns; further classes come last, so that the others keep their places."""
    return [*_COLUMNS, *(f"{what}_{place}" for place in range(2, top_k + 1) for what in ("label", "score"))]


def _other_columns(columns: list[str]) -> Exception:
    found = next((top_k for top_k in range(1, TOP_CLASSES + 1) if _columns(top_k) == columns), None)
    return _OtherTopK(found) if found else ValueError(f"the header has {', '.join(columns)}")


class JsonLines:
    """One JSON object per line; missing values are null."""

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
    """The rows have another number of classes than requested."""

    def __init__(self, top_k: int) -> None:
        super().__init__(f"was made with --top-k {top_k}. Say that again, or name another file.")


class _CutOff(ValueError):
    """The last row is incomplete: its writer was stopped."""


class RowFile:
    """Rows appended to a text file, by one process at a time. Raises `ResultsError`."""

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
            while rest:  # a nearly full disk accepts only a part
                rest = rest[self._file.write(rest) :]

    def _recover(self) -> dict[str, str | None]:
        """Return the label of each path that has a row; truncate an incomplete last row."""
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
    """A Parquet file, made at the end from rows stored in a file beside it until then."""

    def __init__(self, path: Path, top_k: int) -> None:
        self._path = path
        self._top_k = top_k
        self._parquet = _pyarrow_parquet()
        self._there = dict(self._labels())
        self._rows = RowFile(path.with_name(f"{path.name}.rows"), JsonLines(top_k))
        self.done: Mapping[str, str | None] = self._there | self._rows.done

    def add(self, rows: Sequence[Row]) -> None:
        """Store rows in the file beside it."""
        self._rows.add(rows)

    def finish(self) -> None:
        """Replace the file atomically by one with the former rows and the new ones."""
        unfinished = self._path.with_name(f".{self._path.name}.unfinished")
        with _named(self._path):
            self._write(unfinished)
            unfinished.replace(self._path)
            self._rows.path.unlink()
        self._rows.finish()

    def _labels(self) -> Iterator[tuple[str, str | None]]:
        """Yield the path and the label of each row in the Parquet file."""
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
            # Rows already there came from the file beside it, in a run that ended before that file was removed.
            new = (row.as_dict(self._top_k) for row in self._rows.rows() if row.path not in self._there)
            while rows := list(islice(new, _ROW_GROUP)):
                writer.write_table(_pyarrow().Table.from_pylist(rows, schema))


def _schema(top_k: int) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return a Parquet file's columns, with the number of classes per row."""
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
        """Print the rows of classified images."""
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
        """Add rows to the list."""
        self.rows += rows

    def finish(self) -> None:
        """Nothing is left to do."""


# Openers by file extension; each gets the path and the number of classes per row.
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
    """Print a line. Raises `ResultsError` if that fails, except for a closed pipe."""
    try:
        how(line)
    except BrokenPipeError:
        raise
    except OSError as err:
        raise ResultsError(f"standard output: cannot be written: {err.strerror}") from err


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Add the file's name to system errors."""
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
