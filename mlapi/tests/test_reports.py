"""`mlapi feedback`: listing and exporting reports."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.feedback.file import FeedbackFile
from jobs.storage.images import FolderImageStore
from mlapi import cli

KEPT, GONE = "a1" * 32 + ".jpg", "b2" * 32 + ".png"


@pytest.fixture(autouse=True)
def feedback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FeedbackFile:
    """Store reports: on an image that is stored, on one that is not, and in free text."""
    file = tmp_path / "feedback" / "feedback"
    monkeypatch.setenv("FEEDBACK_FILEPATH", str(file))
    feedback = FeedbackFile(file, 4096)
    FolderImageStore(tmp_path / "uploads").put(KEPT, b"the image")
    for name in (KEPT, GONE):
        feedback.append(json.dumps({"filename": name, "prediction": "husky", "score": 0.5}))
    feedback.keep_image(KEPT, FolderImageStore(tmp_path / "uploads"))
    feedback.append("it is a wolf")
    return feedback


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.cli, ["feedback", *map(str, words)])


def report(name: str, label: object) -> str:
    return json.dumps({"filename": name, "prediction": "husky", "score": 0.5, "label": label})


def test_reports_are_listed_as_they_came(tmp_path: Path) -> None:
    kept = tmp_path / "feedback" / "images" / KEPT
    assert run("list").output.splitlines() == [f"{kept}\tnot husky", "image not kept\tnot husky", "it is a wolf"]


def test_reports_are_listed_as_json(tmp_path: Path) -> None:
    listed = [json.loads(line) for line in run("list", "--json").output.splitlines()]
    of_v1 = dict.fromkeys(["comment", "time", "id", "model", "version", "key"])
    known = {"prediction": "husky", "score": 0.5, "label": None, "none": False, "text": None, **of_v1}
    assert listed[:2] == [
        {**known, "image": str(tmp_path / "feedback" / "images" / KEPT)},
        {**known, "image": None},
    ]
    assert listed[2]["text"] == "it is a wolf"


def test_images_are_exported_into_the_folder_of_their_right_class(feedback: FeedbackFile, tmp_path: Path) -> None:
    for label in ("wolf", "malamute", None, 7):
        feedback.append(report(KEPT, label))
    result = run("export", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "1 images in" in result.stderr
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert files == [tmp_path / "out" / "malamute" / KEPT]
    assert files[0].read_bytes() == b"the image"


def test_reports_are_exported_as_lines(tmp_path: Path) -> None:
    assert run("export", tmp_path / "out.jsonl", "--format", "jsonl").exit_code == 0
    assert (tmp_path / "out.jsonl").read_text() == run("list", "--json").output


@pytest.mark.parametrize(
    ("line", "listed"),
    [
        *((text, text) for text in ("[]", "7", '{"filename": 7}', '{"filename": "x"}', "[" * 100_000)),
        ('{"filename": "x", "prediction": 1, "score": "a"}', '{"filename": "x", "prediction": 1, "score": "a"}'),
        ('{"filename": "x", "prediction": "\\ud800", "score": 1}', "image not kept\tnot ?"),
        ('{"filename": "%s", "prediction": "x", "score": 1}' % ("a" * 300), "image not kept\tnot x"),
        ('{"prediction": "x", "score": 1%s}' % ("0" * 400), "image not kept\tnot x"),
        ('{"prediction": "x", "label": null, "id": "1"}', "image not kept\tnot x, but none of the classes"),
        ('{"prediction": "x", "label": null}', "image not kept\tnot x"),
    ],
)
def test_whatever_a_report_is_it_is_listed(feedback: FeedbackFile, line: str, listed: str) -> None:
    FeedbackFile.append(FeedbackFile(feedback.path, 1_000_000), line)
    result = run("list")
    assert result.exit_code == 0
    assert result.output.splitlines()[-1] == listed
    json.loads(run("list", "--json").output.splitlines()[-1], parse_constant=pytest.fail)


def test_a_report_leads_to_no_file_but_an_image_that_was_kept(feedback: FeedbackFile, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    feedback.append(report("../../secret", "wolf"))
    run("export", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_reports_there_is_nothing_to_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEEDBACK_FILEPATH", str(tmp_path / "none"))
    assert run("list").output == ""
    assert run("list").exit_code == 0


def test_what_cannot_be_read_or_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cannot be written" in str(run("export", tmp_path / "no" / "out", "--format", "jsonl").exception)
    monkeypatch.setenv("FEEDBACK_FILEPATH", str(tmp_path))
    assert "cannot be read" in str(run("list").exception)


def test_feedback_by_v1_is_listed_after_the_reports_where_it_says_that_a_prediction_was_wrong(tmp_path: Path) -> None:
    judged = {"image": KEPT.split(".")[0], "predicted_label": "husky", "predicted_score": 0.5}
    also = {"comment": "it howls\nat night", "time": "2026-11-23", "model": "dogs", "version": "2", "key": "bob"}
    also_there = {**also, "prediction": "p1"}
    records = [{**judged, **also_there, "correct": False, "label": "wolf"}, {**judged, "correct": True, "label": None}]
    lines = [*map(json.dumps, records), '{"torn']
    (tmp_path / "feedback" / "feedback.jsonl").write_text("\n".join(lines))
    kept = tmp_path / "feedback" / "images" / KEPT
    assert run("list").output.splitlines()[3:] == [f"{kept}\tnot husky, but wolf\tit howls at night"]
    listed = json.loads(run("list", "--json").output.splitlines()[3])
    assert {name: listed[name] for name in also} == also
    assert listed["id"] == "p1"
    assert run("export", tmp_path / "out").exit_code == 0
    assert (tmp_path / "out" / "wolf" / KEPT).read_bytes() == b"the image"
