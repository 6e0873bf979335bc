"""`python -m chaos`, end to end with one fault."""

import subprocess
import sys

import pytest

from testing.processes import ROOT


@pytest.mark.slow
def test_a_killed_worker_costs_no_request() -> None:
    command = [sys.executable, "-m", "chaos", "--times", "1", "--only", "kill -9 a worker", "--callers", "4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    [row] = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| kill")]
    assert row[:2] == ["kill -9 a worker", "1"]
    assert int(row[2]) == int(row[3]) > 0
    assert row[4:9] == ["0"] * 5
