"""Decoding and inference at the same time, compared with one after the other."""

import pytest
from click.testing import CliRunner

from benchmarks import overlap


def test_the_command_prints_a_line_for_one_worker_and_one_for_a_worker_per_core(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overlap, "available_cores", lambda: 2)
    answer = CliRunner().invoke(overlap.main, ["--batch", "2", "--seconds", "0.05", "--rounds", "1", "--patience", "0"])
    assert answer.exit_code == 0, answer.output
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in answer.stdout.splitlines()[2:4]]
    assert [row[0] for row in rows] == ["1", "2"]
    for _, in_turn, overlapped, ratio in rows:
        assert float(overlapped) / float(in_turn) == pytest.approx(float(ratio), rel=0.2)
