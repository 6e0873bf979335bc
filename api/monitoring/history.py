"""A history of the service's counts, sampled every few seconds, and the rates and latencies computed from it."""

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from prometheus_client.samples import Sample

from api.monitoring.metrics import CACHED, CLASSIFIED, Metrics
from jobs.queue.figures import QueueFigures
from jobs.queue.interface import JobQueue
from runtime.errors import QueueUnavailable

EVERY_S = 5.0
# Ten minutes.
_KEPT = 120
# Rates and percentiles cover this many of the latest samples: a minute.
_LATELY = 12

# Routes that return predictions: only their requests count for latency.
_V2_MODEL = "/v2/models/<name>"
_IMAGE_ROUTES = {"/", "/predict", "/v1/predictions", f"{_V2_MODEL}/infer", f"{_V2_MODEL}/versions/<version>/infer"}


@dataclass(frozen=True, slots=True)
class Counts:
    """A sample of all counts at a Unix time in seconds; without Redis, `queue` is None.

    `latency` maps each upper bound in seconds to how many requests for predictions took no longer.
    """

    at_s: float
    requests: float = 0
    outcomes: Mapping[str, float] = field(default_factory=dict)
    latency: Mapping[float, float] = field(default_factory=dict)
    queue: QueueFigures | None = None

    @classmethod
    def of(cls, metrics: Metrics, queue: JobQueue) -> "Counts":
        """Return the current counts."""
        try:
            figures = queue.figures()
        except QueueUnavailable:
            figures = None
        found = {metric.name: metric.samples for metric in metrics.collect()}
        return cls(
            at_s=time.time(),
            requests=sum(sample.value for sample in found.get("mlapi_http_requests", ())),
            outcomes={sample.labels["outcome"]: sample.value for sample in found.get("mlapi_predictions", ())},
            latency=_latency(found.get("mlapi_http_request_duration_seconds", ())),
            queue=figures,
        )


def _latency(samples: Iterable[Sample]) -> Counter[float]:
    counts: Counter[float] = Counter()
    for sample in samples:
        labels = sample.labels
        if "le" in labels and labels["method"] == "POST" and labels["route"] in _IMAGE_ROUTES:
            counts[float(sample.labels["le"])] += int(sample.value)
    return counts


@dataclass(frozen=True, slots=True)
class Period:
    """The difference between two samples; a figure without any data is None."""

    before: Counts
    after: Counts

    @property
    def seconds(self) -> float:
        """The period's length."""
        return max(self.after.at_s - self.before.at_s, 1e-3)

    @property
    def requests_per_s(self) -> float:
        """All requests per second."""
        return (self.after.requests - self.before.requests) / self.seconds

    @property
    def predictions_per_s(self) -> float:
        """Images answered per second, computed or cached."""
        return (self._answered(CLASSIFIED) + self._answered(CACHED)) / self.seconds

    @property
    def cache_hit_ratio(self) -> float | None:
        """The share of answered images that came from the cache."""
        answered = self._answered(CLASSIFIED) + self._answered(CACHED)
        return self._answered(CACHED) / answered if answered else None

    def _answered(self, outcome: str) -> float:
        return self.after.outcomes.get(outcome, 0) - self.before.outcomes.get(outcome, 0)

    @property
    def failures(self) -> dict[str, int]:
        """The number of images that were not classified, by error code."""
        codes = sorted(self.after.outcomes.keys() - {CLASSIFIED, CACHED})
        return {code: int(count) for code in codes if (count := self._answered(code))}

    @property
    def batches(self) -> dict[int, int]:
        """The number of batches that the workers computed, by size; excludes workers that are gone."""
        if not self.before.queue or not self.after.queue:
            return {}
        return dict(sorted((self.after.queue.batches - self.before.queue.batches).items()))

    def latency_s(self, share: float) -> float | None:
        """Return the latency in seconds at this quantile (0 to 1) of requests for predictions.

        Interpolates linearly within a bucket.
        """
        counts = [(bound, count - self.before.latency.get(bound, 0)) for bound, count in self.after.latency.items()]
        buckets = [(0.0, 0.0), *sorted(counts)]
        wanted = share * buckets[-1][1]
        for (lower, below), (upper, within) in pairwise(buckets):
            if within >= wanted and within > below:
                return lower if upper == float("inf") else lower + (upper - lower) * (wanted - below) / (within - below)
        return None


class History:
    """The samples of the last minutes; one thread takes them, any may read them."""

    def __init__(self, metrics: Metrics, queue: JobQueue) -> None:
        self._metrics = metrics
        self._queue = queue
        self._notes: deque[Counts] = deque(maxlen=_KEPT)

    def run(self, stopped: threading.Event) -> None:
        """Take a sample every few seconds until `stopped` is set."""
        while not stopped.wait(EVERY_S):
            self.note()

    def note(self) -> None:
        """Take a sample."""
        self._notes.append(Counts.of(self._metrics, self._queue))

    def lately(self) -> Period:
        """Return the last minute, or as much of it as there are samples for."""
        notes = self._latest()
        return Period(notes[-min(len(notes), 1 + _LATELY)], notes[-1])

    def periods(self) -> list[Period]:
        """Return the periods between all samples, oldest first."""
        return [Period(before, after) for before, after in pairwise(self._latest())]

    def _latest(self) -> list[Counts]:
        """Return the samples; take a new one first if the last is stale."""
        if not self._notes or self._notes[-1].at_s < time.time() - 2 * EVERY_S:
            self.note()
        return list(self._notes)
