"""Reading reports of wrong predictions, for the operators' page and `mlapi feedback`."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from api.feedback import reports
from api.feedback.reports import NO_CLASS, Report, confusions, latest, oldest_first
from runtime.errors import StorageUnavailable


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


ON_PAGE = {"filename": "aa.png", "prediction": "cat", "score": 0.5}
PAGE = Report(predicted="cat", score=0.5, image_hash="aa")
OF_V1 = {"image": "dd", "predicted_label": "dog", "predicted_score": 0.7, "correct": False, "prediction": "p1"}
V1 = Report(predicted="dog", score=0.7, image_hash="dd", prediction_id="p1")


@pytest.mark.parametrize(
    ("line", "report"),
    [
        (ON_PAGE, PAGE),
        ({**ON_PAGE, "label": "dog", "id": "1"}, replace(PAGE, label="dog")),
        ({**ON_PAGE, "label": None, "id": "1"}, replace(PAGE, none=True)),
        ({**ON_PAGE, "id": "1"}, PAGE),
        ({**ON_PAGE, "label": None}, PAGE),  # of a program, which does not say that no class fits
        ({**ON_PAGE, "label": 7}, PAGE),
        ({**ON_PAGE, "score": "0.5"}, PAGE),
        ({**ON_PAGE, "score": None}, replace(PAGE, score=None)),
        ({**ON_PAGE, "score": 10**400}, replace(PAGE, score=None)),
        ({**ON_PAGE, "score": float("nan")}, replace(PAGE, score=None)),
        ({"prediction": "cat"}, Report(predicted="cat")),
        ({**ON_PAGE, "filename": "../../etc/passwd"}, replace(PAGE, image_hash="passwd")),
        ({**ON_PAGE, "filename": 7}, replace(PAGE, image_hash="")),
        ({**ON_PAGE, "prediction": "\ud800"}, replace(PAGE, predicted="?")),
        *((text, Report(text)) for text in ("words", "{", "[]", "3", '{"prediction": 7}', "[" * 100_000, "\0", "")),
    ],
)
def test_a_report_of_the_page_is_read_the_same_for_the_operators_page_and_the_command(
    file: Path, records: Path, line: object, report: Report
) -> None:
    write(file, line)
    assert list(oldest_first(file, records)) == [report]
    assert latest(file, records) == ([] if report.text is not None else [report])


@pytest.mark.parametrize(
    ("line", "report"),
    [
        (OF_V1, V1),
        ({**OF_V1, "label": "wolf", "none": False}, replace(V1, label="wolf")),
        ({**OF_V1, "label": None, "none": False}, V1),
        ({**OF_V1, "label": None, "none": True}, replace(V1, none=True)),
        (
            {**OF_V1, "comment": "it\nhowls", "key": "bob", "time": "2026"},
            replace(V1, comment="it\nhowls", key="bob", time="2026"),
        ),
        ({**OF_V1, "model": "pets", "version": "7"}, replace(V1, model="pets", version="7")),
        ({**OF_V1, "correct": True}, None),
        ({**OF_V1, "predicted_label": 7}, None),
        *((text, None) for text in ("words", "[]", "3", '{"torn', "[" * 100_000)),
    ],
)
def test_feedback_of_v1_is_read_the_same_for_the_operators_page_and_the_command(
    file: Path, records: Path, line: object, report: Report | None
) -> None:
    write(records, line)
    assert list(oldest_first(file, records)) == latest(file, records) == ([report] if report else [])


def test_reports_of_the_page_and_feedback_come_in_turn_each_with_the_newest_first(file: Path, records: Path) -> None:
    page = [{**ON_PAGE, "label": label} for label in "abc"]
    feedback = [{**OF_V1, "label": label} for label in "de"]
    write(file, *page)
    write(records, feedback[0], {**OF_V1, "correct": True}, feedback[1])
    assert [each.label for each in latest(file, records)] == ["c", "e", "b", "d", "a"]
    assert [each.label for each in oldest_first(file, records)] == ["a", "b", "c", "d", "e"]


def test_of_a_long_file_the_end_is_read(file: Path, records: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_LATEST_BYTES", 100)
    write(file, *({"filename": f"{n}.png", "prediction": "cat"} for n in range(1000)))
    assert [each.image_hash for each in latest(file, records)] == ["999", "998"]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 6])
@pytest.mark.parametrize("torn", ["", '{"prediction": "torn"}'])
def test_of_many_short_reports_the_latest_are_read(
    file: Path, records: Path, monkeypatch: pytest.MonkeyPatch, count: int, torn: str
) -> None:
    monkeypatch.setattr(reports, "_LATEST_REPORTS", 4)
    lines = [json.dumps({"prediction": str(number)}) for number in range(count)]
    file.write_text("".join(f"{line}\n" for line in lines) + torn)
    expected = [str(number) for number in range(count)] + (["torn"] if torn else [])
    assert [each.predicted for each in latest(file, records)] == expected[:-5:-1]


def test_a_file_that_cannot_be_read_is_said_to(tmp_path: Path, records: Path) -> None:
    with pytest.raises(StorageUnavailable):
        latest(tmp_path, records)


def test_the_most_frequent_confusion_comes_first() -> None:
    pairs = [("cat", "dog"), ("cat", None), ("cow", "ox"), ("cat", "dog")]
    found = [
        *(Report(predicted=predicted, label=label) for predicted, label in pairs),
        Report(predicted="cow", none=True),
    ]
    assert confusions(found, 10) == [("cat", "dog", 2), ("cow", "ox", 1), ("cow", NO_CLASS, 1)]
    assert confusions(found, 1) == [("cat", "dog", 2)]
