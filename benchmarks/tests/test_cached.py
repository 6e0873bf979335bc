"""Pictures that are sent again, and the table of the cache."""

from benchmarks.cached import Again, row
from benchmarks.load import Cell
from testing.pictures import Expected, render


def test_pictures_are_sent_again_with_the_same_bytes_and_answers() -> None:
    questions = Again(render(None, 2), [Expected(frozenset({label}), 0.5) for label in ("dog", "cat")])
    first, second, third, fourth = (questions.next() for _ in range(4))
    assert (first, second) == (third, fourth)
    assert first.body != second.body
    assert first.expected.labels == {"dog"}


def test_the_ratio_is_the_median_of_the_rounds() -> None:
    new = [Cell(rate, 10.0, 10.0, 10.0, 0) for rate in (100.0, 200.0, 100.0)]
    known = [Cell(1000.0, 1.0, 1.0, 1.0, 1) for _ in range(3)]
    assert row(16, new, known) == ("16", "100", "10.0", "1000", "1.0", "10.0", "3")
