"""The table, and the figures in it."""

from pathlib import Path

from benchmarks.load import cell
from benchmarks.quiet import busy_share
from benchmarks.raw import plans
from benchmarks.table import Results, describe, hardware, render
from mlapi.tuning.throughput import Plan


def results() -> Results:
    found = Results(Plan(2, 1, 4), cell([0.008], 1))
    for rate, limits in ((80, (100, 100)), (50, (40, 60)), (90, (120, 80))):
        found.add("this service", 4, cell([0.03] * rate, 1), limits)
    return found


def test_the_table_has_medians_and_ratios_to_the_limit_of_the_time() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in render(results(), "how").splitlines()[:4]]
    assert rows[0][:3] == ["system", "users", "requests/s"]
    assert rows[2] == ["raw limit; times of one image alone", "", "100.0", "8.0", "8.0", "8.0", "", "100 %"]
    assert rows[3] == ["this service", "4", "80.0", "30.0", "30.0", "30.0", "0", "90 %"]


def test_a_cell_without_answers_has_no_times() -> None:
    found = Results(Plan(1, 1, 1), cell([0.008], 1))
    found.add("classic design", 64, cell([], 1, errors=9), (100, 100))
    assert "| classic design | 64 | 0.0 | - | - | - | 9 | 0 % |" in render(found, "how")


def test_the_table_says_how_it_came_about() -> None:
    text = describe("a-network in f32", results(), 5.0, 3)
    assert "a-network in f32" in text
    assert "Medians of 3 x 5 s" in text
    assert "2 x 1 x 4" in text


def test_the_hardware_is_named(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor: 0\nmodel name\t: Some Processor\n")
    assert "cores of Some Processor, Python 3." in hardware(tmp_path / "cpuinfo")


def test_every_shape_and_batch_is_tried_once() -> None:
    assert len(plans(1)) == len(set(plans(1))) == 10
    assert {Plan(2, 1, 1), Plan(1, 2, 16), Plan(4, 1, 8)} < set(plans(2))
    assert {Plan(4, 2, 1), Plan(1, 8, 1), Plan(8, 1, 1)} < set(plans(8))


def test_what_is_neither_idle_nor_waits_for_a_disk_is_busy() -> None:
    assert busy_share([0] * 8, [10, 0, 10, 60, 15, 0, 0, 5]) == 0.25
