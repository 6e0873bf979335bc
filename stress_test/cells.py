"""The combinations that the sweep measures, and their results."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from stress_test.report import Measurement, percentile


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination to measure."""

    users: int
    instances: int
    batched: bool

    def environment(self) -> dict[str, str]:
        """Return the settings of this combination's service."""
        size = {} if self.batched else {"BATCH_SIZE": "1", "JOBS_AT_ONCE": "1"}
        return {"INSTANCES": str(self.instances), **size}


@dataclass(frozen=True, slots=True)
class Times:
    """The correct answers to one kind of request: number, rate per second, and percentiles in milliseconds."""

    answers: int
    per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float

    @classmethod
    def of(cls, times_ms: Sequence[float], elapsed_s: float) -> "Times":
        """Summarize the times of a run of `elapsed_s` seconds."""
        p50, p95, p99 = (percentile(times_ms, percent) if times_ms else 0.0 for percent in (50, 95, 99))
        return cls(len(times_ms), len(times_ms) / elapsed_s, p50, p95, p99)


@dataclass(frozen=True, slots=True)
class Result:
    """The measurement of a cell."""

    cell: Cell
    predict: Times
    feedback: Times
    failures: int

    @classmethod
    def of(cls, cell: Cell, measurement: Measurement) -> "Result":
        """Summarize a measurement."""
        times = measurement.times_ms
        predict, feedback = (
            Times.of(times.get(request, []), measurement.elapsed_s) for request in ("POST /predict", "POST /feedback")
        )
        return cls(cell, predict, feedback, measurement.failures.total())

    @classmethod
    def decode(cls, line: str) -> "Result":
        """Return the result that `encode` wrote."""
        found = json.loads(line)
        return cls(Cell(**found["cell"]), Times(**found["predict"]), Times(**found["feedback"]), found["failures"])

    def encode(self) -> str:
        """Return the result as a line of JSON."""
        return json.dumps(asdict(self)) + "\n"


def cells(users: Sequence[int], instances: Sequence[int]) -> list[Cell]:
    """Return every combination."""
    return [Cell(u, i, batched) for i, batched, u in product(instances, (False, True), users)]


def read(results: Path) -> dict[Cell, Result]:
    """Return the results of an earlier, interrupted run."""
    lines = results.read_text().splitlines() if results.exists() else []
    found = [Result.decode(line) for line in lines]
    return {result.cell: result for result in found}
