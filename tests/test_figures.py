"""The measurements of a test run are printed at its end."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

MEASURES = """
def test_it_measures(figures):
    figures.append("7 of 8 right")
    assert False
"""


def printed(file: Path) -> list[str]:
    """Run the tests of a file, and return the lines of the summary."""
    options = ("-c", "pyproject.toml", "-p", "no:cacheprovider", "-p", "conftest")
    command = [sys.executable, "-m", "pytest", *options, str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.stdout.splitlines()


def test_figures_are_printed_at_the_end_also_of_tests_that_fail(tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(MEASURES)
    lines = printed(file)
    [heading] = [number for number, line in enumerate(lines) if line.strip("=") == " figures "]
    assert lines[heading + 1] == "7 of 8 right"


def test_a_run_that_measures_nothing_has_no_figures(tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text("def test_it() -> None: pass")
    lines = printed(file)
    assert "1 passed" in lines[-1]
    assert "figures" not in "".join(lines)
