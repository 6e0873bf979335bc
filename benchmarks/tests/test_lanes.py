"""Users beside a bulk job, and the table of their effects on each other."""

from http.server import ThreadingHTTPServer

import pytest
from click.testing import CliRunner

from benchmarks import bulk, lanes
from benchmarks.lanes import Round, rows
from benchmarks.load import Cell, Load
from testing.pictures import Expected, Questions, render


def test_the_table_has_the_medians_and_what_each_does_to_the_other() -> None:
    rounds = [
        Round(Cell(100.0, 10.0, 12.0, p99_ms, 0), 300.0, Cell(50.0, 15.0, 20.0, 24.0, 1), 150.0, 2)
        for p99_ms in (12.0, 90.0, 12.0)
    ]
    alone, job, beside, ratio = rows(rounds, 1)
    assert alone == ("one user", "100.0", "10.0", "12.0", "-", "0")
    assert job == ("a bulk job", "-", "-", "-", "300", "6")
    assert beside == ("one user and a bulk job", "50.0", "15.0", "24.0", "150", "3")
    assert ratio == ("ratio", "0.50", "1.50", "2.00", "0.50", "")


def test_refused_requests_are_sent_again_and_others_count_as_they_ended(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "_PAUSE_AFTER_REFUSAL_S", 0.001)
    server.RequestHandlerClass.statuses = (503, 429)  # type: ignore[attr-defined]
    done = bulk.Sender(server.server_port, render(None, 2), urgency=6).send(20)
    assert (done.classified, done.errors) == (0, {"503 None": 24})
    assert server.RequestHandlerClass.requests > 3  # type: ignore[attr-defined]


def test_users_ask_as_long_as_something_goes_on(server: ThreadingHTTPServer) -> None:
    load = Load(server.server_port, Questions(render(None, 2), [Expected(frozenset({"dog"}), 0.7)] * 2))
    looks = iter([True, True, True])
    measured = load.run_while(1, lambda: next(looks, False))
    assert measured.errors == 0
    assert measured.rate_per_s > 0
    assert next(looks, None) is None


@pytest.mark.slow
def test_users_and_a_bulk_job_are_all_answered_right() -> None:
    words = ["--images", "48", "--seconds", "0.5", "--rounds", "1", "--patience", "0"]
    answer = CliRunner().invoke(lanes.main, words)
    assert answer.exit_code == 0, answer.output
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in answer.stdout.splitlines()[2:6]]
    assert [row[0] for row in table] == ["one user", "a bulk job", "one user and a bulk job", "ratio"]
    assert [row[-1] for row in table[:3]] == ["0", "0", "0"]
