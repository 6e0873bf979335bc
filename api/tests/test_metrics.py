"""The API's metrics, and access to them."""

import asyncio
import io
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client import generate_latest, values
from prometheus_client.parser import text_string_to_metric_families

from api.access.keys import KeyFile
from api.monitoring.metrics import Metrics, count_together, registry
from api.server.gateway import Gateway
from api.tests.conftest import DOG, FakeWorker, MakeApp
from jobs.queue.figures import Examined, WorkerReport
from jobs.queue.memory import MemoryJobQueue
from jobs.schema import ClassScore, ImageJob, JobFailure, ModelInfo, Prediction, Timings
from jobs.versions.comparison import Comparison
from jobs.versions.rules import Route
from runtime.errors import NotAnImage, QueueFull, QueueUnavailable
from testing.rsgi_client import FakeHeaders, FakeProtocol, FakeScope

Labels = frozenset[tuple[str, str]]
Figures = dict[str, dict[Labels, float]]

COMPUTED = Prediction("Eskimo_dog", 248, 0.64, "m1", Timings(1, 2, 3, 4), (ClassScore("Eskimo_dog", 248, 0.64),))


def parse(text: str) -> Figures:
    """Return values by the name of the sample and its labels."""
    found: Figures = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def look(client: FlaskClient) -> Figures:
    response = client.get("/metrics")
    assert (response.status_code, response.mimetype) == (200, "text/plain")
    return parse(response.text)


def labels(**named: str) -> Labels:
    return frozenset(named.items())


def photo(data: bytes) -> dict[str, object]:
    return {"file": (io.BytesIO(data), "dog.jpeg")}


@pytest.mark.usefixtures("worker")
def test_requests_are_counted_by_route_and_status_and_never_by_path(client: FlaskClient, dog: bytes) -> None:
    client.post("/predict", data=photo(dog))
    for name in ("a.png", "b.png"):
        client.get(f"/display/{name}")
        client.get(f"/nowhere/{name}")
    client.open("/livez", method="BREW")
    counted = look(client)["mlapi_http_requests_total"]
    assert counted == {
        labels(method="POST", route="/predict", status="200"): 1,
        labels(method="GET", route="/display/<name>", status="404"): 2,
        labels(method="GET", route="unmatched", status="404"): 2,
        labels(method="other", route="unmatched", status="405"): 1,
    }


@pytest.mark.usefixtures("worker")
def test_the_time_of_each_request_is_observed(client: FlaskClient, dog: bytes) -> None:
    client.post("/predict", data=photo(dog))
    found = look(client)
    route = {"method": "POST", "route": "/predict"}
    assert found["mlapi_http_request_duration_seconds_count"][labels(**route)] == 1
    assert 0 < found["mlapi_http_request_duration_seconds_sum"][labels(**route)] < 60


def test_predictions_are_counted_by_what_became_of_them(client: FlaskClient, worker: FakeWorker, dog: bytes) -> None:
    worker.outcome = COMPUTED
    for _ in range(3):  # the last two from the cache
        client.post("/predict", data=photo(dog))
    worker.outcome = JobFailure.of(NotAnImage())
    client.post("/v1/predictions", data=dog + b"1", content_type="image/jpeg")
    client.post("/predict", data=photo(b"no image"))
    client.post("/predict")
    found = look(client)
    assert found["mlapi_predictions_total"] == {
        labels(outcome="classified"): 1,
        labels(outcome="cached"): 2,
        labels(outcome="not-an-image"): 2,
    }
    scores = found["mlapi_prediction_score_bucket"]
    assert scores[labels(model="m1", le="0.6")] == 0
    assert scores[labels(model="m1", le="0.7")] == 3


def test_what_the_server_refuses_unread_is_counted_too(
    make_app: MakeApp, queue: MemoryJobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    gateway = Gateway(app, app.extensions["services"].settings, queue)
    monkeypatch.setattr(queue, "refusal", lambda _ahead=0: QueueFull(retry_after_s=1))

    async def ask() -> None:
        gateway.__rsgi_init__(asyncio.get_running_loop())
        for path in ("/predict", "/v1/predictions", "/v2/models/a/infer", "/v2/models/b/infer"):
            scope = FakeScope("POST", path, FakeHeaders(("host", "localhost"), ("content-length", "1")))
            await gateway.__rsgi__(scope, FakeProtocol([b"x"]))

    asyncio.run(ask())
    found = look(app.test_client())
    assert found["mlapi_http_requests_total"] == {
        labels(method="POST", route="/predict", status="429"): 1,
        labels(method="POST", route="/v1/predictions", status="429"): 1,
        labels(method="POST", route="/v2/models/<name>/infer", status="429"): 2,
    }
    assert found["mlapi_predictions_total"] == {labels(outcome="queue-full"): 4}


@pytest.mark.usefixtures("worker")
def test_feedback_is_counted_by_predicted_class_and_strangers_make_up_none(
    client: FlaskClient, queue: MemoryJobQueue, dog: bytes
) -> None:
    queue.publish(ModelInfo("m1", labels=("Eskimo_dog", "malamute")))
    for report in ('{"prediction": "Eskimo_dog"}', '{"prediction": "made up"}', "words", '{"prediction": ["dog"]}'):
        client.post("/feedback", data={"report": report})
    answer = client.post("/v1/predictions", data=dog, content_type="image/jpeg").get_json()
    client.post(f"/v1/predictions/{answer['id']}/feedback", json={"correct": True})
    assert look(client)["mlapi_feedback_total"] == {
        labels(predicted="Eskimo_dog", correct="false"): 1,
        labels(predicted="other", correct="false"): 3,
        labels(predicted="Eskimo_dog", correct="true"): 1,
    }


def test_the_queue_tells_its_figures_when_it_is_asked(client: FlaskClient, queue: MemoryJobQueue) -> None:
    for worker, speed in (("w1", 30), ("w2", 10)):
        queue.heartbeat(worker, 0.01, "m1")
        queue.report(worker, WorkerReport("m1", images_per_s=speed, limit_images_per_s=80))
    queue.publish(ModelInfo("m1", "pets", "7", "f32"))
    for name in ("a.png", "b.png"):
        queue.submit(ImageJob.create(name, 60, size_bytes=10))
    queue.take_batch("w1", 1, 0)
    found = look(client)
    assert found["mlapi_queue_jobs"] == {labels(state="waiting"): 1, labels(state="in_work"): 1}
    expected = {
        "mlapi_redis_up": 1,
        "mlapi_queue_bytes": 20,
        "mlapi_set_aside_images": 0,
        "mlapi_redeliveries_total": 0,
        "mlapi_workers": 2,
        "mlapi_images_per_second": 40,
        "mlapi_limit_images_per_second": 160,
        "mlapi_efficiency_ratio": 0.25,
    }
    assert {name: found[name][labels()] for name in expected} == expected
    assert found["mlapi_queue_oldest_job_age_seconds"][labels()] > 0
    assert found["mlapi_model_info"] == {labels(model="m1", name="pets", version="7", precision="f32"): 1}


def test_jobs_that_are_taken_over_from_dead_workers_are_told_by_the_api_whoever_takes_them(
    client: FlaskClient, queue: MemoryJobQueue
) -> None:
    for worker in ("w1", "w2"):
        queue.heartbeat(worker, 0.01, "m1")
    queue.submit(ImageJob.create("bomb.png", 60))
    for worker in ("w1", "w2"):
        queue.take_batch(worker, 1, 0)
        queue.retire(worker)
    assert look(client)["mlapi_redeliveries_total"] == {labels(): 1}


def test_versions_are_told_with_what_each_is_for_and_how_it_does(client: FlaskClient, queue: MemoryJobQueue) -> None:
    for each, name, version in ((queue, "m1", "7"), (queue.beside("pets@8"), "m2", "8")):
        each.publish(ModelInfo(name, "pets", version))
        each.heartbeat(name, 0.01, name)
    queue.change_route("pets", lambda _: Route("7", shadow={"8": 10}))
    queue.comparisons["pets@8"] = Comparison(
        images=20, agreeing=19, failures=2, dropped=1, score_difference=0.5, ms=300, served_ms=250
    )
    queue.note_examined("m2", Examined(3, 4))
    found, second = look(client), {"name": "pets", "version": "8"}
    assert found["mlapi_version_share_ratio"] == {
        labels(name="pets", version="7", role="serves"): 1,
        labels(**second, role="shadow"): 0.1,
    }
    assert found["mlapi_version_workers"] == {labels(name="pets", version="7"): 1, labels(**second): 1}
    assert found["mlapi_version_corrected_images"] == {
        labels(**second, right="true"): 3,
        labels(**second, right="false"): 1,
    }
    told = {
        "images": 20,
        "agreeing_images": 19,
        "failures": 2,
        "dropped": 1,
        "score_difference": 0.5,
        "duration_seconds": 0.3,
        "served_duration_seconds": 0.25,
    }
    assert {name: found[f"mlapi_shadow_{name}"][labels(**second)] for name in told} == pytest.approx(told)


def test_the_version_that_serves_is_told_with_no_worker_whichever_others_live(
    client: FlaskClient, queue: MemoryJobQueue
) -> None:
    for each, name, version in ((queue, "m1", "7"), (queue.beside("pets@8"), "m2", "8")):
        each.publish(ModelInfo(name, "pets", version))
        each.heartbeat(name, 0.01, name)
    queue.retire("m1")
    found = look(client)
    assert found["mlapi_workers"] == {labels(): 1}
    assert found["mlapi_version_workers"][labels(name="pets", version="7")] == 0
    assert found["mlapi_version_share_ratio"][labels(name="pets", version="7", role="serves")] == 1


def test_without_redis_the_rest_is_still_told(
    client: FlaskClient, queue: MemoryJobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise QueueUnavailable

    client.get("/livez")
    monkeypatch.setattr(queue, "figures", away)
    found = look(client)
    assert found["mlapi_redis_up"] == {labels(): 0}
    assert found["mlapi_http_requests_total"] == {labels(method="GET", route="/livez", status="200"): 1}
    assert "mlapi_workers" not in found


@pytest.mark.parametrize("path", ["/metrics", "/status", "/status/events", "/status/pictures/x.png"])
def test_without_keys_only_this_machine_may_look(client: FlaskClient, path: str) -> None:
    assert client.get(path, environ_base={"REMOTE_ADDR": "192.0.2.1"}).status_code == 403
    assert client.get(path, headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 403
    assert client.get(path).status_code in {200, 404}


@pytest.mark.parametrize("path", ["/metrics", "/status"])
def test_with_keys_whoever_has_one_may_look(make_app: MakeApp, tmp_path: Path, path: str) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    key = keys.add("prometheus")
    client = make_app(api_keys_file=tmp_path / "keys.json").test_client()
    elsewhere = {"REMOTE_ADDR": "192.0.2.1"}
    assert client.get(path, environ_base=elsewhere).status_code == 401
    token = {"Authorization": f"Bearer {key}"}
    assert client.get(path, environ_base=elsewhere, headers=token).status_code == 200


@pytest.fixture
def shared_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make this test's process count in the shared folder, apart from other tests."""
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    count_together(tmp_path)
    return tmp_path


def _count_two(_: int) -> None:
    metrics = Metrics()
    metrics.answered("GET", "/livez", 200, 0.001)
    metrics.answered("GET", "/livez", 200, 0.4)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_processes_count_together_however_they_are_started(shared_folder: Path, start_method: str) -> None:
    with ProcessPoolExecutor(2, get_context(start_method)) as pool:
        list(pool.map(_count_two, range(4)))
    assert list(shared_folder.glob("counter_*.db"))
    found = parse(generate_latest(registry(Metrics(), MemoryJobQueue(max_jobs=1))).decode())
    assert found["mlapi_http_requests_total"] == {labels(method="GET", route="/livez", status="200"): 8}
    latency = found["mlapi_http_request_duration_seconds_bucket"]
    assert latency[labels(method="GET", route="/livez", le="0.002")] == 4
    assert latency[labels(method="GET", route="/livez", le="+Inf")] == 8


def test_a_report_that_is_no_prediction_of_ours_is_not_a_label() -> None:
    metrics = Metrics()
    for predicted in (None, 3, "x" * 1000, {"a": 1}):
        metrics.judged(predicted, ["dog"], correct=False)
    metrics.judged("dog", ["dog"], correct=True)
    [family] = [each for each in metrics.collect() if each.name == "mlapi_feedback"]
    assert {json.dumps(sample.labels, sort_keys=True): sample.value for sample in family.samples} == {
        '{"correct": "false", "predicted": "other"}': 4,
        '{"correct": "true", "predicted": "dog"}': 1,
    }


def test_a_prediction_without_timings_came_from_the_cache() -> None:
    metrics = Metrics()
    metrics.predicted(DOG, COMPUTED, QueueFull())
    [family] = [each for each in metrics.collect() if each.name == "mlapi_predictions"]
    assert {sample.labels["outcome"]: sample.value for sample in family.samples} == {
        "cached": 1,
        "classified": 1,
        "queue-full": 1,
    }
