"""The cost of traces is measured and printed."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_benchmark_prints_the_processor_time_with_traces_off_and_on() -> None:
    command = [sys.executable, "-m", "benchmarks.tracing", "--rounds", "1", "--times", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    rows = re.findall(r"^\| (o\w+.*) \| (\d+) \| (-?\d+) \| ([\d.]+) \|$", done.stdout, re.MULTILINE)
    assert [name for name, *_ in rows] == ["off", "on, none recorded", "on, a tenth recorded", "on, all recorded"]
    assert all(int(api) > 0 and float(batch) > 0 for _, api, _, batch in rows)
