"""Counts the processors that this process may use."""

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_cores(cgroup: Path = _CGROUP) -> int:
    """Return the whole cores allowed by affinity and the container's quota (cgroup v2 or v1), at least one."""
    quota = _quota_v2(cgroup / "cpu.max") or _quota_v1(cgroup / "cpu")
    allowed = len(os.sched_getaffinity(0))
    return max(1, int(min(allowed, quota or allowed)))


def _quota_v2(file: Path) -> float | None:
    """Return the cores allowed by a line like `150000 100000` (microseconds per period); `max` is no limit."""
    if not file.exists():
        return None
    quota, period = file.read_text().split()
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(folder: Path) -> float | None:
    file = folder / "cpu.cfs_quota_us"
    if not file.exists():
        return None
    quota = int(file.read_text())
    return None if quota < 0 else quota / int((folder / "cpu.cfs_period_us").read_text())
