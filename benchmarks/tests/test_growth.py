"""The measurements with simulated workers and queues."""

from benchmarks import wsgi
from benchmarks.growth import figures, measure_backlog, powers
from benchmarks.load import cell


def test_numbers_grow_by_powers_up_to_the_last() -> None:
    assert powers(2, 1, 64) == [1, 2, 4, 8, 16, 32, 64]
    assert powers(10, 10, 100_000) == [10, 100, 1000, 10_000, 100_000]
    assert powers(2, 1, 3) == [1, 2]


def test_figures_are_whole_numbers() -> None:
    assert figures([(1, 1234.5)]) == [["1", "1,234"]]


def test_a_backlog_costs_time_and_memory() -> None:
    row = measure_backlog(100)
    assert row.submit_us > 0
    assert row.take_and_finish_us > 0
    assert row.redis_bytes > 100


def test_a_server_is_one_line_of_figures() -> None:
    instant, waiting = cell([0.002] * 100, 1), cell([2.0] * 10, 1, errors=3)
    line = wsgi.cells("a server", wsgi.Row([instant] * 3, 500.0, 60.0, 256, waiting))
    assert line == ("a server", "2.0", "100", "100", "100", "500", "60", "256", "10", "2.0", "3")


def test_a_server_answers_with_the_api() -> None:
    questions = wsgi.questions(2)
    row = wsgi.measure("granian, 16 threads", questions, seconds=0.2, waiting=20)
    assert row.cells[0].rate_per_s > 0
    assert row.waiting.errors == 0
