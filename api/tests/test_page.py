"""The page, `/display` and the health checks."""

import html
import io
import json
import re

import pytest
from flask.testing import FlaskClient

from api.tests.conftest import FakeWorker
from jobs.errors import QueueFull
from jobs.memory_queue import MemoryJobQueue
from jobs.schema import JobFailure, Prediction


def test_the_page_has_an_upload_form(client: FlaskClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert 'type="file"' in page.text


@pytest.mark.usefixtures("worker")
def test_a_classified_picture_is_shown_with_class_score_and_report_button(client: FlaskClient, dog: bytes) -> None:
    page = client.post("/", data={"file": (io.BytesIO(dog), "dog.jpeg")})
    assert page.status_code == 200
    assert "Eskimo dog" in page.text
    assert "64.0 %" in page.text
    assert client.get(re.findall(r'src="(/display/[^"]+)"', page.text)[0]).data == dog
    report = json.loads(html.unescape(re.findall(r'name="report" value="([^"]+)"', page.text)[0]))
    assert report.keys() == {"filename", "prediction", "score"}
    assert (report["prediction"], report["score"]) == ("Eskimo_dog", 0.6404)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({}, "Choose an image first"),
        ({"file": (io.BytesIO(b"hello"), "text.jpg")}, "not a PNG, JPEG or GIF"),
        ({"file": (io.BytesIO(b"hello"), "notes.txt")}, "name ends in"),
    ],
)
def test_a_bad_upload_leads_back_with_a_message(client: FlaskClient, form: dict[str, object], message: str) -> None:
    response = client.post("/", data=form)
    assert response.status_code == 302
    page = client.get(response.headers["Location"])
    assert page.status_code == 200
    assert message in page.text


def test_the_message_of_a_link_is_never_the_links_own_text(client: FlaskClient) -> None:
    assert "your-bank" not in client.get("/?error=Visit+your-bank.example").text


def test_a_busy_service_says_so_on_the_page(client: FlaskClient, worker: FakeWorker, dog: bytes) -> None:
    worker.outcome = JobFailure.of(QueueFull())
    page = client.post("/", data={"file": (io.BytesIO(dog), "dog.jpeg")})
    assert page.status_code == 429
    assert QueueFull.message in page.text


def test_a_label_cannot_bring_markup_into_the_page(client: FlaskClient, worker: FakeWorker, dog: bytes) -> None:
    worker.outcome = Prediction("<script>alert(1)</script>", 0, 1.0)
    assert "<script>alert" not in client.post("/", data={"file": (io.BytesIO(dog), "dog.jpeg")}).text


@pytest.mark.parametrize(
    "name", ["..%2f..%2fetc%2fpasswd", "../feedback/feedback", "0" * 64 + ".png", "0" * 64 + ".svg", ".upload-abc", "x"]
)
def test_nothing_but_stored_pictures_is_displayed(client: FlaskClient, name: str) -> None:
    assert client.get(f"/display/{name}").status_code == 404


def test_of_a_picture_that_is_not_kept_any_more_the_page_says_so(client: FlaskClient) -> None:
    page = client.get(f"/display/{'0' * 64}.png")
    assert page.status_code == 404
    assert page.headers["X-Error"].startswith("no-such-image")
    assert "removed after a while" in page.text


@pytest.mark.usefixtures("worker")
def test_a_picture_is_displayed_as_what_it_is_and_nothing_else(
    client: FlaskClient, worker: FakeWorker, dog: bytes
) -> None:
    client.post("/predict", data={"file": (io.BytesIO(dog), "dog.jpeg")})
    picture = client.get(f"/display/{worker.image_names[0]}")
    assert picture.mimetype == "image/jpeg"
    assert picture.headers["X-Content-Type-Options"] == "nosniff"


def test_the_service_is_alive_without_workers_but_not_ready(client: FlaskClient) -> None:
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 503


def test_the_service_is_ready_with_a_worker(client: FlaskClient, queue: MemoryJobQueue) -> None:
    queue.heartbeat("w1", 0.1, "m1")
    assert client.get("/readyz").get_json() == {"status": "ready", "workers": 1}
