"""Records the answers to a run's requests, and renders them as a table."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

_HEADER = ("request", "requests", "failures", "requests/s", "p50 ms", "p95 ms", "p99 ms", "max ms")
_LISTED_REASONS = 20


@dataclass(slots=True)
class Measurement:
    """The measurements of a run.

    `times_ms` holds the latencies of correct answers, by request; `failures` counts the other answers by request and
    reason. A failure has no latency: an immediate one would make the service look fast.
    """

    users: int
    elapsed_s: float = 0.0
    generator_cores: float = 0.0
    interrupted: bool = False
    times_ms: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)

    def record(
        self, request_type: str, name: str, response_time: float, exception: Exception | None, **_: object
    ) -> None:
        """Add one answer; the parameters are those of Locust's `request` event."""
        request = f"{request_type} {name}"
        if exception is None:
            self.times_ms[request].append(response_time)
        else:
            self.failures[request, str(exception)] += 1

    def record_bug(self, exception: Exception, **_: object) -> None:
        """Add an error of the test itself; the parameters are those of Locust's `user_error` event."""
        self.failures["the test itself", repr(exception)] += 1

    @property
    def ok(self) -> bool:
        """Whether there were answers, all of them correct."""
        return bool(self.times_ms) and not self.failures


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of the values that at least `percent` % of them do not exceed (the nearest rank)."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def render(measurement: Measurement) -> str:
    """Return the measurement as Markdown: the table, the reasons of failures, and how far to trust it."""
    return "\n\n".join(filter(None, [_table(measurement), _reasons(measurement), _remarks(measurement)]))


def _table(measurement: Measurement) -> str:
    requests = sorted({*measurement.times_ms, *(request for request, _ in measurement.failures)})
    rows = [_row(request, [request], measurement) for request in requests]
    lines = [_HEADER, ("---", *["---:"] * (len(_HEADER) - 1)), *rows, _row("all", requests, measurement)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _row(title: str, requests: Sequence[str], measurement: Measurement) -> tuple[str, ...]:
    times = [time for request in requests for time in measurement.times_ms.get(request, [])]
    failures = sum(count for (request, _), count in measurement.failures.items() if request in requests)
    rate = len(times) / measurement.elapsed_s if measurement.elapsed_s else 0.0
    return (title, str(len(times) + failures), str(failures), f"{rate:.1f}", *_time_cells(times))


def _time_cells(times: Sequence[float]) -> list[str]:
    if not times:
        return ["-"] * 4
    return [f"{percentile(times, percent):.0f}" for percent in (50, 95, 99, 100)]


def _reasons(measurement: Measurement) -> str:
    lines = [f"- {count} x {request}: {why}" for (request, why), count in measurement.failures.most_common()]
    if len(lines) > _LISTED_REASONS:
        lines[_LISTED_REASONS:] = [f"- and {len(lines) - _LISTED_REASONS} reasons more"]
    return "\n".join(["Failures, which requests/s and times leave out:", "", *lines]) if lines else ""


def _remarks(measurement: Measurement) -> str:
    users = f"{measurement.users} user{'s' if measurement.users > 1 else ''}"
    state = ", interrupted" if measurement.interrupted else ""
    return f"{users}, {measurement.elapsed_s:.1f} s{state}; the generator took {measurement.generator_cores:.2f} cores."
