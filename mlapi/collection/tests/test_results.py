"""Rows in files: written, read back, resumed."""

import csv
import json
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mlapi.collection.results import OPENERS, Results, ResultsError
from mlapi.collection.rows import Choice, Row, as_text

ROWS = [
    Row("photos/dog.jpg", "Eskimo_dog", 0.6404),
    Row('photos/a "b", c\n.jpg', "tiger, cat", 1.0),
    Row("photos/é.png", error="not-an-image: It is damaged."),
]
TEXTS = ["results.csv", "results.jsonl"]
ALL = [*TEXTS, "results.parquet"]


def opened(path: Path, top_k: int = 1) -> Results:
    return OPENERS[path.suffix](path, top_k)


def written(path: Path, rows: list[Row], top_k: int = 1) -> None:
    results = opened(path, top_k)
    results.add(rows)
    results.finish()


def done(path: Path, top_k: int = 1) -> set[str]:
    """Return the files for which a later run finds rows."""
    results = opened(path, top_k)
    results.finish()
    return set(results.done)


@contextmanager
def limited_files(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


def objects(path: Path) -> list[dict[str, Any]]:
    """Read the objects of a file as others would."""
    if path.suffix == ".parquet":
        table = pytest.importorskip("pyarrow.parquet").read_table(path)
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows
    return [json.loads(line) for line in path.read_text().splitlines()]


def read(path: Path) -> list[Row]:
    """Read rows as others would."""
    if path.suffix != ".csv":
        return [Row(**row) for row in objects(path)]
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        Row(row["path"], row["label"] or None, float(row["score"]) if row["score"] else None, row["error"] or None)
        for row in rows
    ]


@pytest.mark.parametrize("name", ALL)
def test_rows_are_read_as_they_were_added(tmp_path: Path, name: str) -> None:
    written(tmp_path / name, ROWS)
    assert read(tmp_path / name) == ROWS
    assert [path.name for path in tmp_path.iterdir()] == [name]


HUSKIES = (Choice("Eskimo_dog", 0.6404), Choice("Siberian_husky", 0.3071), Choice("malamute", 0.0312))
TOP_ROWS = [Row("photos/dog.jpg", *HUSKIES[0], top=HUSKIES), ROWS[-1]]


def test_further_classes_are_further_columns(tmp_path: Path) -> None:
    written(tmp_path / "results.csv", TOP_ROWS, top_k=2)
    assert (tmp_path / "results.csv").read_text().splitlines() == [
        "path,label,score,error,label_2,score_2",
        "photos/dog.jpg,Eskimo_dog,0.6404,,Siberian_husky,0.3071",
        "photos/é.png,,,not-an-image: It is damaged.,,",
    ]


@pytest.mark.parametrize("name", ["results.jsonl", "results.parquet"])
def test_further_classes_are_a_list_with_the_first(tmp_path: Path, name: str) -> None:
    for row in TOP_ROWS:  # in two runs
        written(tmp_path / name, [row], top_k=2)
    dog, bad = objects(tmp_path / name)
    assert dog["label"] == "Eskimo_dog"
    assert dog["top"] == [{"label": "Eskimo_dog", "score": 0.6404}, {"label": "Siberian_husky", "score": 0.3071}]
    assert (bad["label"], bad["top"]) == (None, None)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("before", "now"), [(1, 3), (3, 1), (2, 3)])
def test_a_file_with_another_number_of_classes_is_refused_and_stays(
    tmp_path: Path, name: str, before: int, now: int
) -> None:
    path = tmp_path / name
    written(path, TOP_ROWS, top_k=before)
    content = path.read_bytes()
    with pytest.raises(ResultsError, match=f"{name}: was made with --top-k {before}"):
        opened(path, now)
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ALL)
def test_a_file_without_rows_takes_any_number_of_classes(tmp_path: Path, name: str) -> None:
    written(tmp_path / name, [], top_k=1)
    written(tmp_path / name, TOP_ROWS, top_k=3)
    assert done(tmp_path / name, top_k=3) == {row.path for row in TOP_ROWS}


@pytest.mark.parametrize("name", ALL)
def test_a_later_run_knows_what_is_done_and_adds_to_it(tmp_path: Path, name: str) -> None:
    written(tmp_path / name, ROWS[:2])
    results = opened(tmp_path / name)
    assert results.done == {row.path: row.label for row in ROWS[:2]}
    results.add(ROWS[2:])
    results.finish()
    assert read(tmp_path / name) == ROWS


@pytest.mark.parametrize("name", ALL)
def test_no_rows_are_a_file_too(tmp_path: Path, name: str) -> None:
    written(tmp_path / name, [])
    assert read(tmp_path / name) == []
    assert done(tmp_path / name) == set()


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(("rows", "top_k"), [(ROWS, 1), (TOP_ROWS, 3)])
def test_wherever_the_last_row_was_cut_off_it_is_written_anew(
    tmp_path: Path, name: str, rows: list[Row], top_k: int
) -> None:
    path = tmp_path / name
    written(path, rows, top_k)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        results = opened(path, top_k)
        results.add([row for row in rows if row.path not in results.done])
        results.finish()
        assert path.read_bytes() == whole, f"cut off after {size} bytes"


def test_rows_beside_an_unfinished_parquet_file_are_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "results.parquet"
    written(path, ROWS[:1])
    written(tmp_path / "rows.jsonl", ROWS[1:])
    (tmp_path / "rows.jsonl").rename(tmp_path / "results.parquet.rows")  # as a killed run leaves it
    assert done(path) == {row.path for row in ROWS}
    assert read(path) == ROWS


def test_rows_that_came_into_the_parquet_file_just_before_the_end_are_not_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "results.parquet"
    written(path, ROWS)
    written(tmp_path / "rows.jsonl", ROWS)
    (tmp_path / "rows.jsonl").rename(tmp_path / "results.parquet.rows")
    opened(path).finish()
    assert read(path) == ROWS


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results.csv", "name,age\nAnna,7\n"),
        ("results.csv", "not a table"),
        ("results.csv", "path,label,score,error\nphoto.jpg,dog\nphoto2.jpg,dog,0.5,\n"),
        ("results.csv", "path,label,score,error\nphoto.jpg,dog,high,\n"),
        ("results.csv", "path,label,score,error\nphoto.jpg,dog,0.5,,cat,0.4\n"),
        ("results.csv", "path,label,score,error,age\nphoto.jpg,dog,0.5,,7\n"),
        ("results.jsonl", '{"name": "Anna"}\n'),
        ("results.jsonl", '{"path": "photo.jpg", "age": 7}\n'),
        ("results.jsonl", '{"path": "photo.jpg", "label": "dog", "top": [7]}\n'),
        ("results.jsonl", '{"path": "photo.jpg", "label": "dog", "top": null}\n'),
        ("results.jsonl", "my notes"),
        ("results.parquet", "my notes"),
    ],
)
def test_a_file_that_holds_something_else_is_refused_and_stays(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ResultsError, match=str(path)):
        opened(path)
    assert path.read_text() == content


@pytest.mark.parametrize("name", ALL)
def test_two_runs_cannot_write_to_one_file(tmp_path: Path, name: str) -> None:
    first = opened(tmp_path / name)
    with pytest.raises(ResultsError, match="another"):
        opened(tmp_path / name)
    first.finish()
    opened(tmp_path / name).finish()


@pytest.mark.parametrize("name", ALL)
def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ResultsError, match="no-folder"):
        opened(tmp_path / "no-folder" / name)


@pytest.mark.parametrize("name", TEXTS)
def test_a_full_disk_is_said_and_what_was_written_stays(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    results = opened(path)
    results.add(ROWS[:1])
    with limited_files(path.stat().st_size + 10), pytest.raises(ResultsError, match="cannot be written"):
        results.add(ROWS[1:])
    results.finish()
    assert done(path) == {ROWS[0].path}


def test_without_pyarrow_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ResultsError, match=r"pip install 'flask-ml-api\[parquet\]'"):
        opened(tmp_path / "results.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_not_utf_8_stays_readable() -> None:
    assert as_text("photos/caf\udce9.jpg") == r"photos/caf\xe9.jpg"
    assert as_text("photos/Icon\r") == r"photos/Icon\x0d"
    assert as_text("photos/é\n") == "photos/é\n"
