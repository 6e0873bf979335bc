"""Waits until other processes leave the processor idle, so that they do not distort a measurement."""

import time
from pathlib import Path

_BUSY_SHARE = 0.1
_LOOK_S = 0.5


def wait(patience_s: float, stat: Path = Path("/proc/stat")) -> None:
    """Return when the processor is at most 10 % busy, or `patience_s` is over."""
    deadline = time.monotonic() + patience_s
    before = _ticks(stat)
    while time.monotonic() < deadline:
        time.sleep(_LOOK_S)
        now = _ticks(stat)
        if busy_share(before, now) <= _BUSY_SHARE:
            return
        before = now


def busy_share(before: list[int], now: list[int]) -> float:
    """Return the share of all cores in use between two readings of /proc/stat."""
    spent = [later - earlier for earlier, later in zip(before, now, strict=True)]
    idle = spent[3] + spent[4]  # waiting for a disk is idle, too
    return 1 - idle / max(1, sum(spent))


def _ticks(stat: Path) -> list[int]:
    """Return user, nice, system, idle, iowait, irq, softirq and steal time since the start, all cores together."""
    return [int(word) for word in stat.read_text().split("\n", 1)[0].split()[1:9]]
