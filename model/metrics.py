"""A worker's metrics: for Prometheus, and for operators by way of the queue."""

import time
from collections import Counter, deque
from collections.abc import Sequence
from wsgiref.simple_server import WSGIServer

import prometheus_client
from prometheus_client import CollectorRegistry, Gauge, Histogram, ProcessCollector, disable_created_metrics

from jobs.queue.figures import SCORE_BUCKETS, WorkerReport
from jobs.queue.interface import Delivery
from jobs.schema import JobFailure, Outcome, Prediction, Timings
from model.settings import ModelSettings
from runtime.errors import SetupError

_CLASSIFIED = "classified"

_BATCH_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
# From a light network's single image to a heavy one's large batch.
_DURATION_BUCKETS_S = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1, 2, 4, 8)
_WAIT_BUCKETS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3600)

# The period over which images per second are averaged.
_WINDOW_S = 10.0


class _Instruments:
    """The Prometheus metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the start times are of no use
        self._registry = registry
        self.jobs = prometheus_client.Counter(
            "mlapi_worker_jobs",
            "Jobs by what became of them: classified, or the code of an error.",
            ["outcome"],
            registry=registry,
        )
        self.images = self._histogram("batch_images", "Images of a batch.", _BATCH_BUCKETS)
        self.batch = self._duration("batch", "Seconds of a batch, from reading it to its answers.")
        self.decode = self._duration("decode", "Seconds of reading and decoding a batch.")
        self.inference = self._duration("inference", "Seconds of a batch in the network.")
        self.wait = self._duration("queue_wait", "Seconds that a job waited for a worker.", _WAIT_BUCKETS_S)
        self.scores = self._histogram(
            "score", "Scores of the most probable classes of computed images.", SCORE_BUCKETS, "model"
        )
        self.limit = Gauge(
            "mlapi_worker_limit_images_per_second",
            "Images a second that the network did at the start, without decoding and queue.",
            registry=registry,
        )
        ProcessCollector(registry=registry)

    def _duration(self, name: str, documentation: str, buckets: Sequence[float] = _DURATION_BUCKETS_S) -> Histogram:
        return self._histogram(f"{name}_duration_seconds", documentation, buckets)

    def _histogram(self, name: str, documentation: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"mlapi_worker_{name}", documentation, labels, buckets=buckets, registry=self._registry)


class WorkerMetrics:
    """The metrics of one worker, which serves `model` at no more than `limit_images_per_s`.

    One thread counts, and one reports.
    """

    def __init__(self, model: str, limit_images_per_s: float) -> None:
        self.registry = CollectorRegistry()
        self._told = _Instruments(self.registry)
        self._told.limit.set(limit_images_per_s)
        self._scores = self._told.scores.labels(model)
        self._model = model
        self._limit_images_per_s = limit_images_per_s
        self._started_at_s = time.time()
        self._failures = 0
        self._batches: Counter[int] = Counter()
        self._decode_s = self._inference_s = 0.0
        self._lately: deque[tuple[float, int]] = deque()  # monotonic time, and total images by then

    def dropped(self, failure: JobFailure) -> None:
        """Count a job that was not processed."""
        self._told.jobs.labels(failure.code).inc()

    def finished(self, batch: Sequence[Delivery], outcomes: Sequence[Outcome], batch_s: float) -> None:
        """Count a batch."""
        self._batches[len(batch)] += 1
        self._told.images.observe(len(batch))
        self._told.batch.observe(batch_s)
        for delivery, outcome in zip(batch, outcomes, strict=True):
            self._told.wait.observe(delivery.waited_ms / 1000)
            self._settled(outcome)
        timings = next((outcome.timings for outcome in outcomes if isinstance(outcome, Prediction)), None)
        if timings:
            self._timed(timings)

    def _settled(self, outcome: Outcome) -> None:
        if isinstance(outcome, JobFailure):
            self._failures += 1
            self._told.jobs.labels(outcome.code).inc()
        else:
            self._told.jobs.labels(_CLASSIFIED).inc()
            self._scores.observe(outcome.score)

    def _timed(self, timings: Timings) -> None:
        """Count the durations of a batch."""
        decode_s, inference_s = timings.decode_ms / 1000, timings.inference_ms / 1000
        self._decode_s += decode_s
        self._inference_s += inference_s
        self._told.decode.observe(decode_s)
        self._told.inference.observe(inference_s)

    def report(self) -> WorkerReport:
        """Return the report for operators; call it every second or so."""
        batches = dict(self._batches)
        images = sum(size * count for size, count in batches.items())
        return WorkerReport(
            model=self._model,
            started_at_s=self._started_at_s,
            limit_images_per_s=self._limit_images_per_s,
            images_per_s=self._rate(time.monotonic(), images),
            images=images,
            failures=self._failures,
            batches=batches,
            decode_s=self._decode_s,
            inference_s=self._inference_s,
        )

    def _rate(self, now: float, images: int) -> float:
        """Return the images per second since the oldest report of the window, and record this one."""
        while len(self._lately) > 1 and self._lately[0][0] < now - _WINDOW_S:
            self._lately.popleft()
        self._lately.append((now, images))
        then, before = self._lately[0]
        return (images - before) / (now - then) if now > then else 0.0


def show(metrics: WorkerMetrics, settings: ModelSettings) -> WSGIServer | None:
    """Serve the metrics if a port is set, and return the server. Raises `SetupError` if the port is taken."""
    if not settings.metrics_port:
        return None
    try:
        server, _ = prometheus_client.start_http_server(
            settings.metrics_port, settings.metrics_host, registry=metrics.registry
        )
    except OSError as err:
        raise SetupError(
            f"METRICS_PORT={settings.metrics_port} cannot be used at {settings.metrics_host}: {err.strerror}."
        ) from err
    return server
