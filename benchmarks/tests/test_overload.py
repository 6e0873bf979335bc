"""Clients that arrive at a given rate, and the table of their outcomes."""

from http.server import ThreadingHTTPServer

import pytest

from benchmarks.arrivals import Arrivals, Outcomes
from benchmarks.load import Cell
from benchmarks.overload import Overload, Peak, rows, split
from testing.pictures import Expected, Questions, render

MEMORY_MB = {"API": 100.0, "workers": 300.0, "Redis": 10.0}


@pytest.mark.parametrize(("label", "right", "wrong"), [("dog", True, False), ("cat", False, True)])
def test_right_wrong_and_refused_are_told_apart(
    server: ThreadingHTTPServer, label: str, right: bool, wrong: bool
) -> None:
    server.RequestHandlerClass.statuses = (200, 429)  # type: ignore[attr-defined]
    questions = Questions(render(None, 2), [Expected(frozenset({label}), 0.7)] * 2)
    outcomes = Arrivals(server.server_port, questions).run(per_s=40, seconds=0.5, last_answer_s=10)
    assert outcomes.sent == len(outcomes.right_s) + len(outcomes.refused_s) + outcomes.errors.total()
    assert outcomes.refused_s
    assert (bool(outcomes.right_s), bool(outcomes.errors)) == (right, wrong)


def test_a_service_that_is_not_there_is_an_error_for_each_client() -> None:
    questions = Questions(render(None, 1), [Expected(frozenset({"dog"}), 0.7)])
    outcomes = Arrivals(1, questions).run(per_s=40, seconds=0.5, last_answer_s=10)
    assert outcomes.sent == outcomes.errors.total() > 0


def test_the_table_counts_right_answers_that_came_in_time_and_compares_with_the_peak() -> None:
    peak = Peak(32, Cell(100.0, 10.0, 15.0, 20.0, 0), MEMORY_MB)
    outcomes = Outcomes(400, [0.5] * 96, [*[0.5] * 95, 1.5], [0.004] * 304)
    first, second = rows(peak, Overload(400, 1, outcomes, [MEMORY_MB, MEMORY_MB]))
    assert first[:4] == ("32 in turn", "100", "100.0", "100 %")
    assert second[:4] == ("for 1 s", "400", "95.0", "95 %")
    assert second[6:10] == ("76 %", "4.0", "4.0", "0")
    assert second[-1] == "10 -> 10"


@pytest.mark.parametrize(("cores", "service", "clients"), [({0, 1}, {0}, {1}), ({3}, {3}, {3})])
def test_the_clients_have_a_core_of_their_own_where_there_are_two(
    cores: set[int], service: set[int], clients: set[int]
) -> None:
    assert split(cores) == (service, clients)
