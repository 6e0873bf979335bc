"""What was reported as wrong lately."""

import json
from pathlib import Path

import pytest

from api import wrong_predictions
from api.wrong_predictions import NO_CLASS, WrongPrediction, confusions, latest
from jobs.errors import StorageUnavailable


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "feedback"


@pytest.fixture
def records(tmp_path: Path) -> Path:
    return tmp_path / "feedback.jsonl"


def write(file: Path, *lines: object) -> None:
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))


def test_without_feedback_there_is_none(file: Path, records: Path) -> None:
    assert latest(file, records) == []


def test_reports_of_the_page_and_feedback_come_in_turn_each_with_the_newest_first(file: Path, records: Path) -> None:
    write(
        file,
        {"filename": "aa.png", "prediction": "cat", "score": 0.5},
        {"filename": "bb.png", "prediction": "cat", "score": 0.5, "label": "dog", "id": "1"},
        {"filename": "cc.png", "prediction": "cat", "score": 0.5, "label": None, "id": "2"},
    )
    told = {"image": "dd", "predicted_label": "dog", "correct": False, "label": "wolf", "model": "pets"}
    write(records, told, {**told, "image": "ee", "correct": True}, {**told, "image": "ff", "label": None})
    assert latest(file, records) == [
        WrongPrediction("cc", "cat", NO_CLASS),
        WrongPrediction("ff", "dog", "", "pets"),
        WrongPrediction("bb", "cat", "dog"),
        WrongPrediction("dd", "dog", "wolf", "pets"),
        WrongPrediction("aa", "cat", ""),
    ]


@pytest.mark.parametrize(
    "line", ["words", "{", "[]", "3", '{"prediction": 7}', '{"filename": "x"}', "[" * 100_000, "\0"]
)
def test_what_is_no_report_of_a_class_is_left_out(file: Path, records: Path, line: str) -> None:
    write(file, line, {"filename": "../../etc/passwd", "prediction": "cat"})
    write(records, line)
    assert latest(file, records) == [WrongPrediction("passwd", "cat", "")]


def test_of_a_long_file_the_end_is_read(file: Path, records: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrong_predictions, "_LATEST_BYTES", 100)
    write(file, *({"filename": f"{n}.png", "prediction": "cat"} for n in range(1000)))
    assert [each.image_hash for each in latest(file, records)] == ["999", "998"]


def test_a_file_that_cannot_be_read_is_said_to(tmp_path: Path, records: Path) -> None:
    with pytest.raises(StorageUnavailable):
        latest(tmp_path, records)


def test_the_most_frequent_confusion_comes_first() -> None:
    wrong = [WrongPrediction("x", *pair) for pair in [("cat", "dog"), ("cat", ""), ("cow", "ox"), ("cat", "dog")]]
    assert confusions(wrong, 10) == [("cat", "dog", 2), ("cow", "ox", 1)]
    assert confusions(wrong, 1) == [("cat", "dog", 2)]
