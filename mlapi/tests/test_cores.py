"""Counting processors."""

import os
from pathlib import Path

import pytest

from mlapi.service.cores import available_cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def test_without_a_quota_every_core_of_the_affinity_counts(tmp_path: Path) -> None:
    assert available_cores(tmp_path) == 8


@pytest.mark.parametrize(
    ("line", "cores"), [("max 100000", 8), ("300000 100000", 3), ("250000 100000", 2), ("20000 100000", 1)]
)
def test_a_containers_quota_bounds_the_cores(tmp_path: Path, line: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(f"{line}\n")
    assert available_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("200000", 2)])
def test_the_older_kind_of_quota_bounds_them_too(tmp_path: Path, quota: str, cores: int) -> None:
    folder = tmp_path / "cpu"
    folder.mkdir()
    (folder / "cpu.cfs_quota_us").write_text(quota)
    (folder / "cpu.cfs_period_us").write_text("100000")
    assert available_cores(tmp_path) == cores
