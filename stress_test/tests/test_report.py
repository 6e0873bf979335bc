"""The table and the list of failures."""

import pytest

from stress_test.report import Measurement, percentile, render


def measured() -> Measurement:
    measurement = Measurement(users=2, elapsed_s=10.0, generator_cores=0.05)
    for time_ms in range(1, 101):
        measurement.record("POST", "/predict", float(time_ms), None, response_length=70)
    measurement.record("GET", "/", 3.4, None)
    return measurement


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([7.0], 50, 7.0), ([2.0, 1.0], 50, 1.0), ([2.0, 1.0], 51, 2.0), ([3.0, 1.0, 2.0], 100, 3.0), ([1.0], 0, 1.0)],
)
def test_a_percentile_is_one_of_the_values(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected


def test_the_table_has_a_row_for_each_request_and_one_for_all() -> None:
    assert render(measured()).splitlines() == [
        "| request | requests | failures | requests/s | p50 ms | p95 ms | p99 ms | max ms |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| GET / | 1 | 0 | 0.1 | 3 | 3 | 3 | 3 |",
        "| POST /predict | 100 | 0 | 10.0 | 50 | 95 | 99 | 100 |",
        "| all | 101 | 0 | 10.1 | 50 | 95 | 99 | 100 |",
        "",
        "2 users, 10.0 s; the generator took 0.05 cores.",
    ]


def test_failures_are_counted_by_reason_and_left_out_of_rates_and_times() -> None:
    measurement = measured()
    for reason in ["504 deadline-passed", "503 no-worker", "503 no-worker"]:
        measurement.record("POST", "/predict", 30_000.0, ValueError(reason))
    text = render(measurement)
    assert "| POST /predict | 103 | 3 | 10.0 | 50 | 95 | 99 | 100 |" in text
    assert "- 2 x POST /predict: 503 no-worker\n- 1 x POST /predict: 504 deadline-passed" in text
    assert not measurement.ok


def test_a_request_that_only_failed_has_no_times() -> None:
    measurement = Measurement(users=1, elapsed_s=1.0)
    measurement.record("GET", "/", 1.0, ValueError("500"))
    assert "| GET / | 1 | 1 | 0.0 | - | - | - | - |" in render(measurement)


def test_a_long_list_of_reasons_is_cut() -> None:
    measurement = measured()
    for number in range(25):
        measurement.record("GET", "/", 1.0, ValueError(f"reason {number}"))
    assert render(measurement).count("- 1 x GET /") == 20
    assert "- and 5 reasons more" in render(measurement)


def test_a_run_without_answers_is_not_ok() -> None:
    measurement = Measurement(users=1)
    assert "| all | 0 | 0 | 0.0 | - | - | - | - |" in render(measurement)
    assert not measurement.ok


def test_an_error_of_the_test_itself_is_a_failure() -> None:
    measurement = measured()
    measurement.record_bug(ZeroDivisionError("division by zero"), user_instance=None, tb=None)
    assert "- 1 x the test itself: ZeroDivisionError('division by zero')" in render(measurement)
    assert not measurement.ok
