"""The counts, and when the service counts as recovered."""

from chaos.callers import RIGHT, UNANSWERED, WRONG, Request
from chaos.run import Result, recovery_s
from chaos.table import render

NO_WORKER = "503 no-worker"


def request(sent_at: float, settled_at: float, outcome: str = RIGHT, unheard: int = 0, broke: int = 0) -> Request:
    return Request(sent_at, settled_at, outcome, unheard, broke)


def result(*requests: Request) -> Result:
    return Result("kill -9 a worker", requests, [1.25, 0.75])


def test_who_is_refused_for_a_while_is_not_lost() -> None:
    some = result(request(0, 1), request(0, 1, NO_WORKER), request(0, 1, "429 queue-full"))
    assert some.refusals == {NO_WORKER: 1, "429 queue-full": 1}
    assert (some.lost, some.passed) == (0, True)


def test_whoever_is_not_answered_in_time_or_told_that_all_failed_is_lost() -> None:
    some = result(request(0, 1), request(0, 30, "504 deadline-passed"), request(0, 1, "500 internal-error"))
    assert some.losses == {"504 deadline-passed": 1, "500 internal-error": 1}
    assert (some.lost, some.passed) == (2, False)
    assert result(request(0, 1), request(0, 40, UNANSWERED)).lost == 1


def test_one_wrong_answer_is_one_too_many() -> None:
    some = result(request(0, 1), request(0, 1, WRONG))
    assert (some.lost, some.passed) == (0, False)


def test_where_nobody_was_answered_nothing_was_shown() -> None:
    assert not result(request(0, 1, NO_WORKER)).passed


def test_all_is_well_when_the_last_who_noticed_the_fault_has_an_answer() -> None:
    slow, refused = request(9, 11.5), request(10, 12, NO_WORKER)
    broken, untouched = request(12, 12.5, broke=1), request(13, 13.1)
    assert recovery_s([slow, untouched], origin=10) == 1.5
    assert recovery_s([slow, refused, untouched], origin=10) == 2
    assert recovery_s([slow, refused, broken, untouched], origin=10) == 2.5


def test_a_fault_that_nobody_noticed_needs_no_recovery() -> None:
    assert recovery_s([request(9.9, 10.1), request(13, 13.1)], origin=10) == 0


def test_the_table_has_a_row_for_each_fault_and_says_what_was_not_tried() -> None:
    some = result(
        request(0, 1, unheard=2), request(0, 1, broke=2), request(0, 1, NO_WORKER), request(0, 30, UNANSWERED)
    )
    text = render([some], ["the disk, since only root can mount one"])
    row = "| kill -9 a worker | 2 | 4 | 2 | 1 x 503 no-worker | 1 | 1 | 0 | 1 x unanswered | 1.0 (1.2) |"
    assert row in text.splitlines()
    assert "Not tried: the disk, since only root can mount one." in text
