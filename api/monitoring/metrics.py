"""Prometheus metrics of requests, predictions and feedback, and of the queue.

API processes share their counts: each writes files of its own in one folder, and whichever is scraped adds them up.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from flask import Flask, Response, request
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from api.http import connection
from jobs.queue.figures import SCORE_BUCKETS, QueueFigures
from jobs.queue.interface import JobQueue
from jobs.schema import Prediction
from runtime.errors import QueueUnavailable, ServiceError

# The variable that gives prometheus_client the folder for counts of several processes.
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"

# From a cached answer to PREDICT_TIMEOUT_S, closely spaced where most latencies lie.
LATENCY_BUCKETS_S = (
    *(0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 30, 60),
)

# Stands for unknown routes, methods and classes: a label has few values, and clients must not add more.
UNMATCHED, OTHER = "unmatched", "other"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_VERSION = ("name", "version")
# Metrics of a comparison: field, unit, name, documentation.
_COMPARISON = (
    ("images", 1, "images", "Images that a version and the one that serves have both classified."),
    ("agreeing", 1, "agreeing_images", "Those of the same class."),
    ("failures", 1, "failures", "Copies that the version could not classify."),
    ("dropped", 1, "dropped", "Copies that were not made, so as to keep nobody waiting."),
    ("score_difference", 1, "score_difference", "Sum of the differences of their best scores."),
    ("ms", 0.001, "duration_seconds", "Seconds that the version took for these images."),
    ("served_ms", 0.001, "served_duration_seconds", "Seconds that the version that serves took for them."),
)

CLASSIFIED, CACHED = "classified", "cached"


def count_together(folder: Path) -> None:
    """Make this process and its children count in one folder; call this before they count."""
    os.environ[_FOLDER] = str(folder)
    # The library reads the variable when it is imported, which may have been before.
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]  # it has no annotations


class Metrics(Collector):
    """The API's own counts; any thread may add to them, which takes some microseconds."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # creation times are of no use
        self._own = CollectorRegistry()
        self._requests = self._counter("http_requests", "Requests by route and status.", "method", "route", "status")
        self._latency = self._histogram(
            "http_request_duration_seconds",
            "Seconds from the whole request to its answer; without requests that were refused unread.",
            LATENCY_BUCKETS_S,
            "method",
            "route",
        )
        self._predictions = self._counter(
            "predictions",
            "Images that somebody waited for, by what became of them: classified, cached, or the code of an error.",
            "outcome",
        )
        self._scores = self._histogram(
            "prediction_score", "Scores of the most probable classes that were answered.", SCORE_BUCKETS, "model"
        )
        self._feedback = self._counter(
            "feedback",
            "Reports and feedback by the class that was predicted, and whether that was right.",
            "predicted",
            "correct",
        )

    # Cached, since the library's lookup of a counter by its labels takes as long as counting. Labels have few values.

    def _counter(self, name: str, documentation: str, *labels: str) -> Callable[..., Counter]:
        """Return a function from label values to a counter."""
        return cache(Counter(f"mlapi_{name}", documentation, labels, registry=self._own).labels)

    def _histogram(
        self, name: str, documentation: str, buckets: Sequence[float], *labels: str
    ) -> Callable[..., Histogram]:
        """Return a function from label values to a histogram."""
        return cache(Histogram(f"mlapi_{name}", documentation, labels, buckets=buckets, registry=self._own).labels)

    def answered(self, method: str, route: str, status: int, duration_s: float) -> None:
        """Count an answered request and its latency."""
        self._count(method, route, status)
        self._latency(_method(method), route).observe(duration_s)

    def refused(self, method: str, route: str, error: ServiceError) -> None:
        """Count a request for predictions that was refused unread, as if for one image."""
        self._count(method, route, error.status)
        self.predicted(error)

    def _count(self, method: str, route: str, status: int) -> None:
        self._requests(_method(method), route, str(status)).inc()

    def predicted(self, *outcomes: Prediction | ServiceError) -> None:
        """Count the outcomes of images."""
        for outcome in outcomes:
            if isinstance(outcome, ServiceError):
                self._predictions(outcome.code).inc()
            else:
                self._predictions(CLASSIFIED if outcome.timings else CACHED).inc()
                self._scores(outcome.model).observe(outcome.score)

    @contextmanager
    def counting_failure(self) -> Iterator[None]:
        """Count an image as failed if the block raises a `ServiceError`."""
        try:
            yield
        except ServiceError as err:
            self.predicted(err)
            raise

    def judged(self, predicted: object, labels: Sequence[str], *, correct: bool) -> None:
        """Count feedback on a prediction; a label that is none of the model's counts as `OTHER`."""
        label = predicted if isinstance(predicted, str) and predicted in labels else OTHER
        self._feedback(label, str(correct).lower()).inc()

    def collect(self) -> Iterable[Metric]:
        """Return the counts of all API processes."""
        folder = os.environ.get(_FOLDER)
        if folder is None:
            return self._own.collect()
        collected: Iterable[Metric] = MultiProcessCollector(None, folder).collect()  # type: ignore[no-untyped-call]
        return collected


class QueueMetrics(Collector):
    """Metrics of the queue and its workers, read at each scrape."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue

    def collect(self) -> Iterator[Metric]:
        """Yield whether Redis is up and, if so, the queue's metrics."""
        try:
            figures, model = self._queue.figures(), self._queue.model()
        except QueueUnavailable:
            yield _redis_up(False)
            return
        yield _redis_up(True)
        yield from _queue_gauges(figures)
        yield from _version_gauges(figures)
        if model:
            about = {"name": model.name, "version": model.version, "precision": model.precision, "model": model.id}
            yield InfoMetricFamily("mlapi_model", "The model that the workers serve.", about)


def _redis_up(up: bool) -> Metric:
    return GaugeMetricFamily("mlapi_redis_up", "Whether Redis answers.", up)


def _queue_gauges(figures: QueueFigures) -> Iterator[Metric]:
    jobs = GaugeMetricFamily(
        "mlapi_queue_jobs", "Jobs in the queue, by whether they wait or are in work.", labels=["state"]
    )
    jobs.add_metric(["waiting"], figures.waiting_jobs)
    jobs.add_metric(["in_work"], figures.held_jobs)
    yield jobs
    for name, documentation, value in (
        ("queue_bytes", "Bytes of the images of the jobs in the queue.", figures.queued_bytes),
        ("queue_oldest_job_age_seconds", "Age of the oldest job in the queue, 0 without one.", figures.oldest_job_s),
        ("set_aside_images", "Images that ended their workers and are refused.", figures.set_aside_images),
        ("workers", "Workers that are alive.", figures.live_workers),
        ("images_per_second", "Images a second that the workers do, over the last seconds.", figures.images_per_s),
        (
            "limit_images_per_second",
            "Images a second that their networks did at their start, without decoding and queue.",
            figures.limit_images_per_s,
        ),
        ("efficiency_ratio", "Share of that limit that the workers reach.", figures.efficiency),
    ):
        yield GaugeMetricFamily(f"mlapi_{name}", documentation, value)
    yield CounterMetricFamily("mlapi_redeliveries", "Jobs taken over from a worker that died.", figures.redeliveries)


def _version_gauges(figures: QueueFigures) -> Iterator[Metric]:
    """Yield metrics per version: gauges, since their counts are dropped with the version."""
    workers = GaugeMetricFamily("mlapi_version_workers", "Live workers of a version.", labels=_VERSION)
    share = GaugeMetricFamily(
        "mlapi_version_share_ratio", "Share of the images that a version gets, by its role.", labels=(*_VERSION, "role")
    )
    examined = GaugeMetricFamily(
        "mlapi_version_corrected_images",
        "Images whose right class users have said, by whether the version gets it right.",
        labels=(*_VERSION, "right"),
    )
    for each in figures.versions:
        name = (each.version.info.name, each.version.info.version)
        workers.add_metric(name, each.version.workers)
        share.add_metric((*name, each.role.name), each.role.percent / 100)
        if each.examined:
            examined.add_metric((*name, "true"), each.examined.right)
            examined.add_metric((*name, "false"), each.examined.images - each.examined.right)
    yield from (workers, share, examined)
    yield from _comparison_gauges(figures)


def _comparison_gauges(figures: QueueFigures) -> Iterator[Metric]:
    """Yield the results of versions on copies of the images that the serving version answers."""
    for field, unit, name, documentation in _COMPARISON:
        gauge = GaugeMetricFamily(f"mlapi_shadow_{name}", documentation, labels=_VERSION)
        for each in figures.versions:
            if each.comparison:
                name_and_version = (each.version.info.name, each.version.info.version)
                gauge.add_metric(name_and_version, unit * getattr(each.comparison, field))
        yield gauge


def registry(metrics: Metrics, queue: JobQueue) -> CollectorRegistry:
    """Return a registry of all metrics."""
    found = CollectorRegistry()
    found.register(metrics)
    found.register(QueueMetrics(queue))
    return found


def install(app: Flask, metrics: Metrics) -> None:
    """Count the requests of `app`."""

    def count(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else UNMATCHED
        took_s = time.monotonic() - connection.current().received_at_s
        metrics.answered(request.method, route, response.status_code, took_s)
        return response

    app.after_request(count)


def _method(method: str) -> str:
    return method if method in _METHODS else OTHER
