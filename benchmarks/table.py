"""Renders measurements as one Markdown table."""

import math
import platform
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.load import Cell
from mlapi.service.cores import available_cores
from mlapi.tuning.throughput import Plan

_HEADER = ("system", "users", "requests/s", "p50 ms", "p95 ms", "p99 ms", "errors", "of the limit")


@dataclass(slots=True)
class Results:
    """Cells by system and users, with the limit in images/s at the time; and the time of one image alone."""

    plan: Plan
    alone: Cell
    cells: defaultdict[tuple[str, int], list[tuple[Cell, float]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, system: str, users: int, measured: Cell, limits: Sequence[float]) -> None:
        """Add a cell, and the limits measured before and after it."""
        self.cells[system, users].append((measured, statistics.mean(limits)))


def render(results: Results, about: str) -> str:
    """Return the table, followed by the conditions of the measurement."""
    rows = [_limit_row(results)]
    rows += [_row(system, users, measured) for (system, users), measured in results.cells.items()]
    return f"{markdown(_HEADER, rows)}\n\n{about}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first column holds words, the others figures."""
    lines = [header, ("---", *["---:"] * (len(header) - 1)), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _limit_row(results: Results) -> tuple[str, ...]:
    limit = statistics.median(limit for measured in results.cells.values() for _, limit in measured)
    return ("raw limit; times of one image alone", "", f"{limit:.1f}", *_times([results.alone]), "", "100 %")


def _row(system: str, users: int, measured: Sequence[tuple[Cell, float]]) -> tuple[str, ...]:
    cells = [cell for cell, _ in measured]
    rate = statistics.median(cell.rate_per_s for cell in cells)
    ratio = statistics.median(cell.rate_per_s / limit for cell, limit in measured)
    errors = str(sum(cell.errors for cell in cells))
    return (system, str(users), f"{rate:.1f}", *_times(cells), errors, f"{ratio:.0%}".replace("%", " %"))


def _times(cells: Sequence[Cell]) -> list[str]:
    columns = ([getattr(cell, name) for cell in cells] for name in ("p50_ms", "p95_ms", "p99_ms"))
    return [_milliseconds(statistics.median(column)) for column in columns]


def _milliseconds(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def describe(model: str, results: Results, seconds: float, rounds: int) -> str:
    """Return the conditions and the method of the measurement."""
    generator = max(cell.generator_cores for measured in results.cells.values() for cell, _ in measured)
    return (
        f"{conditions()}; {model}. Medians of {rounds} x {seconds:g} s. The limit's workers x threads x batch: "
        f"{results.plan}. The load generator took at most {generator:.2f} cores."
    )


def conditions() -> str:
    """Return the date and the hardware."""
    return f"{datetime.now().astimezone().date().isoformat()}, {hardware()}"


def hardware(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return processor, system and versions."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    python = platform.python_version()
    return f"{available_cores()} cores of {name}, Python {python}, OpenVINO {version('openvino')}"
