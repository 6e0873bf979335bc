"""The cost of metrics and traces in throughput is measured and printed."""

import re
import subprocess
import sys

import pytest
import requests

from benchmarks import systems
from benchmarks.load import Cell
from benchmarks.observed import row, settings
from testing.processes import ROOT


def test_the_ratios_are_those_of_each_round_and_their_median() -> None:
    nothing = [Cell(rate, 10.0, 20.0, 30.0, 0) for rate in (100.0, 200.0, 50.0)]
    on = [Cell(rate, 11.0, 20.0, p99_ms, 1) for rate, p99_ms in ((90.0, 40.0), (200.0, 30.0), (49.0, 300.0))]
    assert row("metrics", nothing, on) == ("metrics", "90.0", "11.0", "40.0", "3", "0.90 1.00 0.98", "0.980")
    assert row("nothing", nothing, nothing) == ("nothing", "100.0", "10.0", "30.0", "0", "", "")


@pytest.mark.slow
def test_the_service_is_measured_with_nothing_with_metrics_and_with_traces_that_are_sent() -> None:
    options = ["--users", "1", "--seconds", "0.5", "--rounds", "1", "--patience", "0"]
    command = [sys.executable, "-m", "benchmarks.observed", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rows = re.findall(
        r"^\| ([mn]\w.*?) \| ([\d.]+) \|.*\| (\d+) \| ([\d.]*) \| ([\d.]*) \|$", done.stdout, re.MULTILINE
    )
    assert [(name, errors) for name, _, errors, *_ in rows] == [
        ("nothing", "0"),
        ("metrics", "0"),
        ("metrics, traces as by default", "0"),
        ("metrics, all traces", "0"),
    ]
    assert all(float(rate) > 1 for _, rate, *_ in rows)
    assert all(float(ratio) > 0 for *_, ratio in rows[1:])
    [sent_kb] = re.findall(r"was sent (\d+) kB", done.stdout)
    assert int(sent_kb) > 0


@pytest.mark.slow
def test_a_service_that_is_to_count_nothing_does_not() -> None:
    counts = []
    for environment in list(settings("").values())[:2]:
        with systems.running("this service", environment) as port:
            requests.post(f"http://127.0.0.1:{port}/predict", data=b"no image", timeout=30)
            counts.append("/predict" in requests.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text)
    assert counts == [False, True]
