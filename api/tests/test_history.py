"""Rates and latencies computed from two samples of the counts."""

import pytest

from api.monitoring.history import Counts, History, Period
from api.monitoring.metrics import Metrics
from api.server.gateway import _IMAGE_ENDPOINTS
from jobs.queue.figures import QueueFigures, WorkerFigures, WorkerReport
from jobs.queue.memory import MemoryJobQueue
from jobs.schema import Prediction, Timings
from runtime.errors import QueueUnavailable

COMPUTED = Prediction("dog", 0, 0.9, "m1", Timings(1, 1, 1, 1))
CACHED = Prediction("dog", 0, 0.9, "m1")


def figures(**batches: dict[int, int]) -> QueueFigures:
    """Return the figures of a queue with these workers and the batches they computed."""
    return QueueFigures(
        workers=tuple(
            WorkerFigures(name, 0, alive=True, report=WorkerReport(batches=done)) for name, done in batches.items()
        )
    )


def test_rates_are_what_came_to_it_by_its_seconds() -> None:
    period = Period(
        Counts(100, requests=50, outcomes={"classified": 10, "cached": 5, "queue-full": 1}),
        Counts(110, requests=90, outcomes={"classified": 25, "cached": 10, "queue-full": 4, "too-slow": 1}),
    )
    assert period.requests_per_s == 4
    assert period.predictions_per_s == 2
    assert period.cache_hit_ratio == 0.25
    assert period.failures == {"queue-full": 3, "too-slow": 1}


def test_of_a_time_in_which_nothing_happened_nothing_is_made_up() -> None:
    period = Period(Counts(100), Counts(100))
    assert (period.requests_per_s, period.cache_hit_ratio, period.failures, period.batches) == (0, None, {}, {})
    assert period.latency_s(0.5) is None


@pytest.mark.parametrize(("share", "seconds"), [(0.25, 0.05), (0.5, 0.1), (0.75, 0.15), (1, 0.2)])
def test_percentiles_lie_evenly_within_their_bucket(share: float, seconds: float) -> None:
    before = {0.1: 2.0, 0.2: 2.0, float("inf"): 2.0}
    after = {0.1: 12.0, 0.2: 22.0, float("inf"): 22.0}
    assert Period(Counts(0, latency=before), Counts(1, latency=after)).latency_s(share) == pytest.approx(seconds)


def test_what_took_longer_than_the_last_bound_is_said_to_take_that() -> None:
    after = {0.1: 1.0, float("inf"): 10.0}
    assert Period(Counts(0), Counts(1, latency=after)).latency_s(0.99) == 0.1


def test_batches_are_those_since_then_and_a_worker_that_is_gone_takes_none_away() -> None:
    before = Counts(0, queue=figures(w1={1: 5, 4: 1}, w2={1: 9}))
    assert Period(before, Counts(1, queue=figures(w1={1: 15, 4: 3}, w2={1: 9}))).batches == {1: 10, 4: 2}
    assert Period(before, Counts(1, queue=figures(w1={1: 6, 4: 2}))).batches == {4: 1}


def test_the_counts_are_those_of_predictions_whoever_asks_for_other_things() -> None:
    metrics = Metrics()
    for endpoint in _IMAGE_ENDPOINTS:
        metrics.answered("POST", endpoint.route, 200, 0.04)
    metrics.answered("GET", "/v1/predictions/<prediction_id>", 200, 20)
    metrics.answered("GET", "/", 200, 20)
    metrics.predicted(COMPUTED, CACHED)
    counts = Counts.of(metrics, MemoryJobQueue(max_jobs=1))
    assert (counts.requests, counts.outcomes) == (7, {"classified": 1, "cached": 1})
    assert (counts.latency[0.03], counts.latency[0.05], counts.latency[float("inf")]) == (0, 5, 5)
    assert counts.queue == QueueFigures()


def test_without_redis_there_are_counts_and_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise QueueUnavailable

    queue = MemoryJobQueue(max_jobs=1)
    monkeypatch.setattr(queue, "figures", away)
    assert Counts.of(Metrics(), queue).queue is None


def test_the_last_minute_is_reckoned_from_the_notes_of_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now, metrics = 1000.0, Metrics()
    monkeypatch.setattr("api.monitoring.history.time.time", lambda: now)
    history = History(metrics, MemoryJobQueue(max_jobs=1))
    for _ in range(40):
        history.note()
        metrics.answered("GET", "/", 200, 0.01)
        now += 5
    now -= 5
    assert len(history.periods()) == 39
    assert history.lately().seconds == 60
    assert history.lately().requests_per_s == pytest.approx(0.2)


def test_where_nobody_makes_notes_one_is_made_when_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    now, metrics = 1000.0, Metrics()
    monkeypatch.setattr("api.monitoring.history.time.time", lambda: now)
    history = History(metrics, MemoryJobQueue(max_jobs=1))
    assert history.lately().requests_per_s == 0
    metrics.answered("GET", "/", 200, 0.01)
    now += 20
    assert history.lately().requests_per_s == pytest.approx(0.05)
    assert len(history.periods()) == 1
