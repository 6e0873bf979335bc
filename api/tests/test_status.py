"""The operators' page: figures, reports of wrong predictions, quarantined images."""

import asyncio
import html
import io
import json
import re
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from api.server.gateway import Gateway
from api.tests.conftest import DOG, FakeWorker, MakeApp
from jobs.queue.figures import Examined, WorkerReport
from jobs.queue.memory import MemoryJobQueue
from jobs.schema import ImageJob, JobFailure, ModelInfo
from jobs.versions.comparison import Comparison
from jobs.versions.rules import Route
from runtime.errors import QueueUnavailable
from testing.rsgi_client import FakeHeaders, FakeProtocol, FakeScope

POISON = "ab" * 32 + ".png"


def set_aside(queue: MemoryJobQueue) -> None:
    """Have an image crash two workers."""
    queue.heartbeat("w0", 0.01, "m1")
    queue.submit(ImageJob.create(POISON, 60))
    for worker in ("w1", "w2", "w3"):
        queue.heartbeat(worker, 0.01, "m1")
        queue.take_batch(worker, 1, 0)
        queue.retire(worker)


def test_the_page_has_the_workers_and_the_queue(client: FlaskClient, queue: MemoryJobQueue) -> None:
    queue.heartbeat("host-7", 0.0125, "m1")
    began_at_s = time.time() - 300
    queue.report("host-7", WorkerReport("m1", began_at_s, 120, 30, 1000, 3, {2: 500}, decode_s=2, inference_s=4))
    queue.submit(ImageJob.create("a.png", 60))
    page = client.get("/status")
    assert page.status_code == 200
    text = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", page.text))
    assert "host-7 m1 alive" in text
    assert "5 min 12.5 ms 2.0 ms 4.0 ms 30.0 /s 120 /s 1000 3" in text
    assert "Waiting 1 Processing 0" in text
    assert "Of the limit 25 % 30 of 120 images/s" in text


def test_every_time_is_there_for_programs_too(client: FlaskClient, queue: MemoryJobQueue) -> None:
    set_aside(queue)
    page = client.get("/status").text
    times = re.findall(r"<time(.*?)>(.*?)</time>", page)
    assert len(times) == 3
    for attributes, text in times:
        [of_programs] = re.fullmatch(r' datetime="(.+)"', attributes).groups()  # type: ignore[union-attr]
        at = datetime.fromisoformat(of_programs)
        assert (at.utcoffset(), at.strftime("%Y-%m-%d %H:%M:%S UTC")) == (timedelta(0), text)


def test_a_worker_that_is_not_heard_of_is_told_to_be_silent(
    client: FlaskClient, queue: MemoryJobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.heartbeat("host-7", 0.0125, "m1")
    monkeypatch.setattr(queue, "_worker_ttl_s", 0.0)
    assert "<strong>silent</strong>" in client.get("/status").text


def test_the_page_says_that_redis_is_away(
    client: FlaskClient, queue: MemoryJobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise QueueUnavailable

    for method in ("figures", "set_aside_images", "labels"):
        monkeypatch.setattr(queue, method, away)
    page = client.get("/status")
    assert page.status_code == 200
    assert "Redis does not answer" in page.text


def test_what_could_not_be_classified_is_told_by_its_reason(
    client: FlaskClient, worker: FakeWorker, dog: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr("api.monitoring.history.time.time", lambda: now)
    client.get("/status")
    worker.outcome = JobFailure("inference-failed", "no")
    client.post("/predict", data={"file": (io.BytesIO(dog), "dog.jpeg")})
    now += 20
    assert "1 <code>inference-failed</code>" in client.get("/status").text


@pytest.mark.usefixtures("worker")
def test_a_version_alone_has_no_table(client: FlaskClient) -> None:
    assert "Versions" not in client.get("/status").text


def test_versions_are_shown_where_there_are_several(client: FlaskClient, queue: MemoryJobQueue) -> None:
    queue.publish(ModelInfo("m1", "pets", "7"))
    queue.heartbeat("w1", 0.01, "m1")
    beside = queue.beside("pets@8")
    beside.publish(ModelInfo("m2", "pets", "8"))
    beside.heartbeat("w2", 0.01, "m2")
    queue.change_route("pets", lambda _: Route("7", shadow={"8": 10}))
    queue.comparisons["pets@8"] = Comparison(images=20, agreeing=19, score_difference=0.5, ms=300, served_ms=250)
    queue.note_examined("m2", Examined(3, 4))
    row = client.get("/status/events").text.split("pets@8")[1].split("</tr>")[0]
    cells = [" ".join(cell.split()) for cell in re.findall("<td>(.*?)</td>", row, re.DOTALL)]
    assert cells == [
        *("shadow 10 %", "1", "3 of 4", "20", "95 %", "0.025", "15.0 ms, serving 12.5 ms", "0 left out, 0 failed")
    ]


@pytest.mark.usefixtures("worker")
def test_reports_have_their_picture_and_what_was_taken_for_what(
    client: FlaskClient, queue: MemoryJobQueue, dog: bytes
) -> None:
    queue.publish(ModelInfo("m1", labels=("Eskimo_dog", "malamute")))
    page = client.post("/", data={"file": (io.BytesIO(dog), "dog.jpeg")})
    report = html.unescape(re.findall(r'name="report" value="([^"]+)"', page.text)[0])
    for _ in range(2):
        client.post("/feedback", data={"report": report, "label": "malamute"})
    text = client.get("/status").text
    assert "<td>Eskimo dog</td><td>malamute</td><td>2</td>" in text
    pictures = re.findall(r'src="(/status/pictures/[^"]+)"', text)
    assert len(pictures) == 2
    shown = client.get(pictures[0])
    assert (shown.data, shown.mimetype) == (dog, "image/jpeg")
    assert "sandbox" in shown.headers["Content-Security-Policy"]


@pytest.mark.usefixtures("worker")
def test_feedback_on_predictions_of_v1_is_shown_too(client: FlaskClient, dog: bytes) -> None:
    answer = client.post("/v1/predictions", data=dog, content_type="image/jpeg").get_json()
    for _ in range(20):  # more than are shown
        client.post("/feedback", data={"report": json.dumps({"prediction": "cat", "filename": "gone.png"})})
    judged = {"correct": False, "label": "malamute"}
    assert client.post(f"/v1/predictions/{answer['id']}/feedback", json=judged).status_code == 201
    text = client.get("/status").text
    assert "<td>Eskimo dog</td><td>malamute</td><td>1</td>" in text
    assert client.get(re.findall(r'src="(/status/pictures/[^"]+)"', text)[0]).data == dog


def test_a_report_is_shown_as_text_and_leads_nowhere(client: FlaskClient, tmp_path: Path) -> None:
    (tmp_path / "feedback").mkdir()
    (tmp_path / "feedback" / "secret.png").write_bytes(b"secret")
    report = {"filename": "../secret.png", "prediction": "<script>alert(1)</script>", "score": 1}
    client.post("/feedback", data={"report": json.dumps(report)})
    text = client.get("/status").text
    assert "&lt;script&gt;" in text
    assert "<script>alert" not in text
    assert "/status/pictures/" not in text


@pytest.mark.parametrize(
    "report",
    [
        {"filename": "a" * 300, "prediction": "cat"},
        {"filename": "\0", "prediction": "cat"},
        {"filename": "\ud800", "prediction": "cat"},
        {"filename": "x", "prediction": "cat \ud800"},
        {"filename": "x", "prediction": "cat", "label": "\ud800"},
    ],
)
def test_no_report_keeps_the_page_from_being_shown(client: FlaskClient, tmp_path: Path, report: dict[str, str]) -> None:
    (tmp_path / "feedback" / "images").mkdir(parents=True)
    client.post("/feedback", data={"report": json.dumps(report)})
    page = client.get("/status")
    assert page.status_code == 200
    assert "<span>cat" in page.text


@pytest.mark.parametrize("name", ["..%2Fsecret.png", "secret.png", ".png", "x", "%00.png", "ab.html"])
def test_there_are_no_other_files_than_kept_pictures(client: FlaskClient, tmp_path: Path, name: str) -> None:
    (tmp_path / "feedback" / "images").mkdir(parents=True)
    (tmp_path / "feedback" / "secret.png").write_bytes(b"secret")
    (tmp_path / "feedback" / "images" / "ab.html").write_bytes(b"secret")
    assert client.get(f"/status/pictures/{name}").status_code == 404


def test_an_image_that_is_set_aside_is_shown_and_released(client: FlaskClient, queue: MemoryJobQueue) -> None:
    set_aside(queue)
    assert POISON[:16] in client.get("/status").text
    response = client.post("/status/release", data={"image": POISON.removesuffix(".png")})
    assert (response.status_code, response.headers["Location"]) == (303, "/status#set-aside")
    assert queue.set_aside_images() == []
    assert "No image has ended its workers" in client.get("/status").text


@pytest.mark.parametrize(("headers", "address"), [({"Sec-Fetch-Site": "cross-site"}, "127.0.0.1"), ({}, "192.0.2.1")])
def test_no_page_of_another_site_and_no_other_machine_releases_one(
    client: FlaskClient, queue: MemoryJobQueue, headers: dict[str, str], address: str
) -> None:
    set_aside(queue)
    form, environ = {"image": POISON.removesuffix(".png")}, {"REMOTE_ADDR": address}
    assert client.post("/status/release", data=form, headers=headers, environ_base=environ).status_code == 403
    assert len(queue.set_aside_images()) == 1


def test_an_event_has_the_figures_and_when_to_ask_again(client: FlaskClient, queue: MemoryJobQueue) -> None:
    queue.heartbeat("host-7", 0.0125, "m1")
    response = client.get("/status/events")
    assert (response.mimetype, response.headers["Cache-Control"]) == ("text/event-stream", "no-store")
    assert response.text.startswith("retry: 5000\ndata: ")
    assert response.text.endswith("\n\n")
    assert "host-7" in response.text


@pytest.mark.parametrize(("client_address", "status"), [("127.0.0.1:4000", 200), ("192.0.2.1:4000", 403)])
def test_events_go_on_until_the_service_stops_for_those_who_may_look(
    make_app: MakeApp, queue: MemoryJobQueue, monkeypatch: pytest.MonkeyPatch, client_address: str, status: int
) -> None:
    monkeypatch.setattr("api.app.EVERY_S", 0.01)
    app = make_app()
    gateway = Gateway(app, app.extensions["services"].settings, queue)

    async def listen() -> FakeProtocol:
        gateway.__rsgi_init__(asyncio.get_running_loop())
        protocol = FakeProtocol()
        headers = FakeHeaders(("host", "localhost"))
        scope = FakeScope(path="/status/events", headers=headers, client=client_address)
        asked = asyncio.create_task(gateway.__rsgi__(scope, protocol))
        while status == 200 and not (protocol.stream and len(protocol.stream.pieces) > 2):
            await asyncio.sleep(0.005)
        gateway.drain()
        await asked
        return protocol

    protocol = asyncio.run(asyncio.wait_for(listen(), 60))
    assert protocol.answer
    assert protocol.answer.status == status
    assert (protocol.stream is not None) == (status == 200)


def test_a_cached_answer_raises_the_share_of_the_cache(
    client: FlaskClient, worker: FakeWorker, dog: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr("api.monitoring.history.time.time", lambda: now)
    client.get("/status")
    assert worker.outcome == DOG
    for _ in range(2):
        client.post("/predict", data={"file": (io.BytesIO(dog), "dog.jpeg")})
    now += 20
    assert "<dt>From the cache</dt><dd>100<span> %</span>" in client.get("/status").text
