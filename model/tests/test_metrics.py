"""A worker's metrics and reports."""

import socket
import urllib.request
from itertools import count

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from jobs.queue.interface import Delivery
from jobs.schema import ImageJob, JobFailure, Outcome, Prediction, Timings
from model.metrics import WorkerMetrics, show
from model.settings import ModelSettings
from runtime.errors import DeadlinePassed, NotAnImage, SetupError

DOG = Prediction("dog", 0, 0.85, timings=Timings(0, 20, 40, 2))
BROKEN = JobFailure.of(NotAnImage())
_ids = count()


def delivery(waited_ms: float = 0) -> Delivery:
    return Delivery(ImageJob(str(next(_ids)), "dog.jpeg", 60), "1-0", "", waited_ms)


def figures(metrics: WorkerMetrics) -> dict[str, float]:
    """Return all values by the name of the sample and its labels' values, in the order of the labels' names."""
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    samples = [sample for family in families for sample in family.samples]
    return {
        " ".join([sample.name, *(value for _, value in sorted(sample.labels.items()))]): sample.value
        for sample in samples
    }


@pytest.fixture
def metrics() -> WorkerMetrics:
    return WorkerMetrics("m1", 100)


def test_a_batch_is_counted_with_its_size_and_where_its_time_went(metrics: WorkerMetrics) -> None:
    outcomes: list[Outcome] = [DOG, BROKEN]
    metrics.finished([delivery(1000), delivery(2000)], outcomes, 0.07)
    found = figures(metrics)
    assert (found["mlapi_worker_batch_images_bucket 1.0"], found["mlapi_worker_batch_images_bucket 2.0"]) == (0, 1)
    assert found["mlapi_worker_batch_duration_seconds_sum"] == 0.07
    assert found["mlapi_worker_decode_duration_seconds_sum"] == 0.02
    assert found["mlapi_worker_inference_duration_seconds_sum"] == 0.04
    assert found["mlapi_worker_queue_wait_duration_seconds_sum"] == 3
    assert found["mlapi_worker_jobs_total classified"] == 1
    assert found["mlapi_worker_jobs_total not-an-image"] == 1


def test_scores_are_counted_by_model_as_a_first_sign_of_drift(metrics: WorkerMetrics) -> None:
    metrics.finished([delivery()], [DOG], 0.1)
    found = figures(metrics)
    assert (found["mlapi_worker_score_bucket 0.8 m1"], found["mlapi_worker_score_bucket 0.9 m1"]) == (0, 1)


def test_jobs_that_expired_are_counted(metrics: WorkerMetrics) -> None:
    metrics.dropped(JobFailure.of(DeadlinePassed()))
    assert figures(metrics)["mlapi_worker_jobs_total deadline-passed"] == 1


def test_a_batch_of_which_nothing_was_computed_has_no_times(metrics: WorkerMetrics) -> None:
    metrics.finished([delivery()], [BROKEN], 0.01)
    assert figures(metrics)["mlapi_worker_inference_duration_seconds_count"] == 0


def test_a_report_has_all_since_the_start_and_the_speed_of_the_last_seconds(
    metrics: WorkerMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("model.metrics.time.monotonic", lambda: now)
    assert metrics.report().images_per_s == 0
    outcomes: list[Outcome] = [DOG, BROKEN]
    for _ in range(20):
        now += 1
        metrics.finished([delivery(), delivery()], outcomes, 0.07)
        report = metrics.report()
    assert (report.model, report.limit_images_per_s, report.images_per_s) == ("m1", 100, 2)
    assert (report.images, report.failures, report.batches) == (40, 20, {2: 20})
    assert report.decode_s == pytest.approx(0.4)
    assert report.inference_s == pytest.approx(0.8)
    now += 30
    assert metrics.report().images_per_s < 1


def test_prometheus_is_told_at_a_port_where_one_is_set(metrics: WorkerMetrics) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = show(metrics, ModelSettings(metrics_port=port))
    assert server
    with server:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert b"mlapi_worker_limit_images_per_second 100.0" in answer.read()
        with pytest.raises(SetupError, match=f"METRICS_PORT={port}"):
            show(metrics, ModelSettings(metrics_port=port))
        server.shutdown()


def test_by_default_nothing_listens(metrics: WorkerMetrics) -> None:
    assert show(metrics, ModelSettings()) is None
