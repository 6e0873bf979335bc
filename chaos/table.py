"""Renders what the clients noticed as one Markdown table."""

import statistics
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from benchmarks.table import hardware, markdown
from chaos.callers import RIGHT, WRONG
from chaos.run import Result

_HEADER = (
    "fault",
    "strikes",
    "requests",
    "right",
    "refused",
    "nobody listened",
    "broke off",
    "wrong",
    "lost",
    "well again after s, median (longest)",
)


def render(results: Sequence[Result], skipped: Sequence[str]) -> str:
    """Return the table, the skipped faults, and the hardware."""
    lines = [markdown(_HEADER, [_row(result) for result in results]), "", *(f"Not tried: {why}." for why in skipped)]
    today = datetime.now().astimezone().date().isoformat()
    return "\n".join([*lines, f"{today}, {hardware()}."])


def _row(result: Result) -> tuple[str, ...]:
    return (
        result.fault,
        str(len(result.recoveries_s)),
        str(len(result.requests)),
        str(result.count(RIGHT)),
        _counted(result.refusals),
        str(result.unheard),
        str(result.broke),
        str(result.count(WRONG)),
        _counted(result.losses),
        f"{statistics.median(result.recoveries_s):.1f} ({max(result.recoveries_s):.1f})",
    )


def _counted(reasons: Counter[str]) -> str:
    return ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common()) or "0"
