"""Printing text from strangers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from api.feedback.file import FeedbackFile
from jobs.schema import ClassScore
from mlapi import cli, terminal
from mlapi.collection.results import Printed
from mlapi.collection.rows import Row
from mlapi.operating import doctor
from mlapi.operating.doctor import Finding
from runtime.errors import SetupError

ROOT = Path(__file__).parents[2]
HARM = "\x1b[2J\x9b2J\x1b]8;;http://x\x07y\r\u202e\u2028\x85\x7f"


def is_harmless(printed: str) -> bool:
    """Return whether a text has only printable characters, tabs and line ends."""
    return all(character.isprintable() or character in "\t\n" for character in printed)


def test_a_line_stays_one_and_keeps_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.echo(f"a\tb\n{HARM}")
    printed = capsys.readouterr().out
    assert printed.startswith("a\tb\\n\\x1b[2J\\x9b2J")
    assert printed.count("\n") == 1
    assert is_harmless(printed)


def test_lines_of_ours_stay_lines(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.echo_lines(f"a\n{HARM}", error=True)
    printed = capsys.readouterr().err
    assert printed.startswith("a\n\\x1b[2J")
    assert is_harmless(printed)


def test_json_is_harmless_and_has_the_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.echo_json(json.dumps({"text": HARM}, ensure_ascii=False))
    printed = capsys.readouterr().out
    assert is_harmless(printed)
    assert json.loads(printed) == {"text": HARM}


REPORTS = [
    f"as text {HARM}",
    json.dumps({"filename": "x.png", "prediction": f"husky\n{HARM}", "score": 0.5, "label": f"wolf\n\t{HARM}"}),
]
RECORD = {"prediction": "p1", "image": "0" * 64, "correct": False, "predicted_label": f"husky{HARM}"}
RECORD |= {"predicted_score": 0.5, "label": f"wolf\n{HARM}", "comment": f"look:\n{HARM}", "key": f"key{HARM}"}


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_reports_are_listed_a_line_each_and_harmless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    file = tmp_path / "feedback"
    monkeypatch.setenv("FEEDBACK_FILEPATH", str(file))
    reports = FeedbackFile(file, 4096)
    for report in REPORTS:
        reports.append(report)
    file.with_name("feedback.jsonl").write_text(json.dumps(RECORD) + "\n")
    listed = CliRunner().invoke(cli.cli, ["feedback", "list", *options])
    assert listed.exit_code == 0
    assert is_harmless(listed.output)
    assert len(listed.output.splitlines()) == 3
    if options:
        assert json.loads(listed.output.splitlines()[2])["label"] == RECORD["label"]
    else:
        assert listed.output.splitlines()[1].count("\t") == 1


def test_names_of_files_are_printed_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    Printed(1).add([Row.classified(f"a\n\t{HARM}.png", [ClassScore(f"dog\n\t{HARM}", 0, 0.5)])])
    printed = capsys.readouterr().out
    assert printed.endswith("\t0.5000\n")
    assert (printed.count("\t"), printed.count("\n")) == (2, 1)
    assert is_harmless(printed)


def test_findings_are_printed_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: [Finding("queue", "wrong", f"it said {HARM}")])
    for options in ([], ["--json"]):
        assert is_harmless(CliRunner().invoke(cli.cli, ["doctor", *options]).output)


def test_an_error_that_ends_a_command_is_printed_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise SetupError(f"it said\n{HARM}")

    monkeypatch.setattr(cli, "cli", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert str(ended.value).startswith("mlapi: it said\n\\x1b")
    assert is_harmless(str(ended.value))


@pytest.mark.parametrize(
    "statement", ["print(1)", "import click\n\nclick.echo(1)", "from click import echo\n\necho(1)"]
)
def test_no_command_prints_another_way(statement: str) -> None:
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--stdin-filename",
        "mlapi/another.py",
        "--select",
        "T20,TID251",
        "-",
    ]
    checked = subprocess.run(command, cwd=ROOT, input=f"{statement}\n", capture_output=True, text=True, timeout=60)
    assert "mlapi.terminal" in checked.stdout or "T201" in checked.stdout
