"""`python -m benchmarks`, end to end for a second."""

import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from testing.processes import ROOT


@pytest.mark.slow
def test_both_systems_answer_right_and_nothing_is_left_running() -> None:
    options = ["--users", "1", "--seconds", "1", "--rounds", "1", "--plan", "1x1x1", "--patience", "0"]
    command = [sys.executable, "-m", "benchmarks", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()[3:5]]
    assert [(row[0], row[1], row[6]) for row in rows] == [("this service", "1", "0"), ("classic design", "1", "0")]
    assert all(float(row[2]) > 1 for row in rows)
    assert re.search(r"\d cores of .*, Python 3", done.stdout)


@pytest.mark.parametrize("option", [["--users", "0"], ["--users", "1,,4"], ["--plan", "2x1"], ["--only", "theirs"]])
def test_a_wrong_option_is_refused_by_name(option: list[str]) -> None:
    answer = CliRunner().invoke(main, option)
    assert answer.exit_code == 2
    assert option[0] in answer.output
