"""What traces cost in throughput is measured and printed."""

import re
import subprocess
import sys

import pytest

from benchmarks.load import Cell
from benchmarks.processes import ROOT
from benchmarks.traced import row


def test_the_ratios_are_those_of_each_round_and_their_median() -> None:
    off = [Cell(rate, 10.0, 20.0, 30.0, 0) for rate in (100.0, 200.0, 50.0)]
    on = [Cell(rate, 11.0, 20.0, p99_ms, 1) for rate, p99_ms in ((90.0, 40.0), (200.0, 30.0), (49.0, 300.0))]
    assert row("on", off, on) == ("on", "90.0", "11.0", "40.0", "3", "0.90 1.00 0.98", "0.980")
    assert row("off", off, off) == ("off", "100.0", "10.0", "30.0", "0", "", "")


@pytest.mark.slow
def test_the_service_is_measured_without_traces_and_with_those_that_are_sent() -> None:
    options = ["--users", "1", "--seconds", "0.5", "--rounds", "1", "--patience", "0"]
    command = [sys.executable, "-m", "benchmarks.traced", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| (o\w.*?) \| ([\d.]+) \|.*\| (\d+) \| ([\d.]*) \| ([\d.]*) \|$", done.stdout, re.MULTILINE)
    assert [(name, errors) for name, _, errors, *_ in rows] == [
        ("off", "0"),
        ("on, as by default", "0"),
        ("on, all recorded", "0"),
    ]
    assert all(float(rate) > 1 for _, rate, *_ in rows)
    assert all(float(ratio) > 0 for *_, ratio in rows[1:])
    [sent_kb] = re.findall(r"was sent (\d+) kB", done.stdout)
    assert int(sent_kb) > 0
