"""The cost of storage is measured and printed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_benchmark_prints_the_cost_of_each_operation() -> None:
    pytest.importorskip("moto")
    command = [sys.executable, "-m", "benchmarks.storage", "--times", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    rows = re.findall(r"^\| (\w.+?) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", done.stdout, re.MULTILINE)
    assert len(rows) == 6
    assert all(float(in_storage_ms) > 0 for _, _, _, in_storage_ms, _ in rows)
    assert "Means of 2" in done.stdout
