"""`mlapi classify` compared with the limit."""

import pytest
from click.testing import CliRunner

from benchmarks import collection
from benchmarks.collection import Try


def test_a_line_has_the_medians_of_the_ratios_to_each_tries_own_limit() -> None:
    tries = [Try(90, 80, 0, 100), Try(50, 30, 0, 50), Try(240, 100, 2, 300)]
    assert collection.row("in process", tries) == ("in process", "90", "90 %", "60 %", "2")


@pytest.mark.slow
def test_both_ways_classify_all_photos() -> None:
    words = ["--images", "12", "--seconds", "0.05", "--rounds", "1", "--patience", "0"]
    answer = CliRunner().invoke(collection.main, words)
    assert answer.exit_code == 0, answer.output
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in answer.stdout.splitlines()[2:4]]
    assert [(row[0], row[-1]) for row in rows] == [("in process", "0"), ("through the service", "0")]
