"""The sweep's plan, its stored results, and the report."""

from collections import Counter
from pathlib import Path

import pytest

from stress_test import written_report
from stress_test.cells import Cell, Result, Times, cells, read
from stress_test.report import Measurement


def result(cell: Cell, per_second: float = 10.0) -> Result:
    times = Times(answers=100, per_second=per_second, p50_ms=12.5, p95_ms=20, p99_ms=30.25)
    return Result(cell, predict=times, feedback=times, failures=0)


def results() -> list[Result]:
    return [result(c, 50.0 * c.instances + 10 * c.batched) for c in cells((1, 16), (1, 2))]


def test_every_combination_is_measured_once() -> None:
    wanted = cells((1, 2, 64), (1, 2))
    assert len(wanted) == len(set(wanted)) == 12


def test_one_by_one_means_one_job_and_one_image_at_a_time() -> None:
    assert Cell(4, 2, batched=False).environment() == {"INSTANCES": "2", "BATCH_SIZE": "1", "JOBS_AT_ONCE": "1"}
    assert Cell(4, 2, batched=True).environment() == {"INSTANCES": "2"}


def test_what_was_measured_is_read_again_after_an_interruption(tmp_path: Path) -> None:
    file = tmp_path / "cells.jsonl"
    assert read(file) == {}
    file.write_text("".join(found.encode() for found in results()[:3]))
    assert list(read(file).values()) == results()[:3]


def test_a_measurement_is_summed_up_by_kind_of_request() -> None:
    measurement = Measurement(users=2, elapsed_s=2.0)
    measurement.times_ms["POST /predict"] += [10.0, 20.0, 30.0, 40.0]
    measurement.failures = Counter({("POST /feedback", "500"): 3})
    found = Result.of(Cell(2, 1, batched=True), measurement)
    assert found.predict == Times(answers=4, per_second=2.0, p50_ms=20.0, p95_ms=40.0, p99_ms=40.0)
    assert (found.feedback.answers, found.failures) == (0, 3)


def test_the_report_says_what_instances_and_batches_gain_and_shows_every_figure(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="`make report` installs matplotlib")
    report = tmp_path / "REPORT.md"
    written_report.write(report, results(), seconds=10)
    text = report.read_text()
    assert "+20 % (50 to 60 predictions/s)" in text
    assert "+83 % (60 to 110 predictions/s)" in text
    assert "| 2 | one by one | 16 | 100 | 100.0 | 12.5 | 20.0 | 30.2 |" in text
    assert {path.name for path in tmp_path.glob("*.png")} == {"throughput.png", "p99.png"}
