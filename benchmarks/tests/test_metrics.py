"""The cost of metrics is measured and printed."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_benchmark_prints_the_processor_time_of_each() -> None:
    command = [sys.executable, "-m", "benchmarks.metrics", "--rounds", "1", "--times", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    rows = re.findall(r"^\| (\w.+) \| (-?\d+) \|$", done.stdout, re.MULTILINE)
    assert len(rows) == 5
    assert all(int(us) > 0 for what, us in rows if "differences" not in what)
    assert "% of the API's own work" in done.stdout
