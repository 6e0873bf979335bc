"""The page, `/display` and the health checks."""

import html
import io
import json
import re

import pytest
from flask.testing import FlaskClient

from api.tests.conftest import FakeWorker, MakeApp
from jobs.queue.memory import MemoryJobQueue
from jobs.schema import JobFailure, ModelInfo, Prediction, Timings
from runtime.errors import DeadlinePassed, NotAnImage, QueueFull, QueueUnavailable


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
        ({"file": (io.BytesIO(b"hello"), "notes.txt")}, "not a PNG, JPEG or GIF"),
    ],
)
def test_a_bad_upload_leads_back_with_a_message(client: FlaskClient, form: dict[str, object], message: str) -> None:
    response = client.post("/", data=form)
    assert response.status_code == 302
    page = client.get(response.headers["Location"])
    assert page.status_code == 200
    assert message in page.text


@pytest.mark.parametrize("content_type", ["", "application/json", "image/png", "text/plain"])
def test_a_program_that_sends_no_form_is_not_led_to_a_page(client: FlaskClient, content_type: str) -> None:
    response = client.post("/", data=b'{"file": "data"}', content_type=content_type)
    assert (response.status_code, response.headers["X-Error"].split(":")[0]) == (400, "no-file")


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("filename", ["dog.jfif", "dog", "dog.txt"])
def test_the_page_goes_by_the_content_of_a_file_whatever_its_name(
    client: FlaskClient, dog: bytes, filename: str
) -> None:
    page = client.post("/", data={"file": (io.BytesIO(dog), filename)})
    assert page.status_code == 200
    assert client.get(re.findall(r'src="(/display/[^"]+\.jpg)"', page.text)[0]).data == dog


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


def pictures(*files: tuple[str, bytes]) -> dict[str, object]:
    return {"file": [(io.BytesIO(data), name) for name, data in files]}


@pytest.mark.usefixtures("worker")
def test_the_most_probable_classes_are_shown_with_their_scores(client: FlaskClient, dog: bytes) -> None:
    page = client.post("/", data=pictures(("dog.jpeg", dog))).text
    assert re.findall(r"<span>([^<]+)</span>", page) == ["Eskimo dog", "64.0 %", "malamute", "20.0 %"]
    assert re.findall(r'<meter [^>]*value="([^"]+)"', page) == ["0.640374", "0.2"]
    assert re.search(r"\d+ ms, from the cache,\s+by m1", page)


def test_a_prediction_that_tells_of_one_class_is_shown(client: FlaskClient, worker: FakeWorker, dog: bytes) -> None:
    worker.outcome = Prediction("cat", 1, 0.5, "m1", Timings(1, 2, 3, 4))
    page = client.post("/", data=pictures(("dog.jpeg", dog))).text
    assert re.findall(r"<span>([^<]+)</span>", page) == ["cat", "50.0 %"]
    assert re.search(r"\d+ ms, 3 of them in the network,\s+by m1", page)


@pytest.mark.usefixtures("worker")
def test_of_several_pictures_a_bad_one_fails_alone(client: FlaskClient, dog: bytes) -> None:
    page = client.post("/", data=pictures(("a.jpeg", dog), ("b.jpeg", b"hello"), ("c.jpeg", dog)))
    assert page.status_code == 200
    assert re.findall(r'class="file">([^<]+)<', page.text) == ["a.jpeg", "b.jpeg", "c.jpeg"]
    assert page.text.count("Eskimo dog</h2>") == 2
    assert page.text.count("not a PNG, JPEG or GIF") == 1


def test_once_the_deadline_has_passed_no_further_picture_is_waited_for(
    make_app: MakeApp, worker: FakeWorker, dog: bytes
) -> None:
    worker.outcome = None
    client = make_app(predict_timeout_s=0.1, cache_ttl_s=0).test_client()
    page = client.post("/", data=pictures(("a.jpeg", dog), ("b.jpeg", dog), ("c.jpeg", dog)))
    assert page.text.count("No answer within 0.1 s") == 1
    assert page.text.count(DeadlinePassed.message) == 2


@pytest.mark.usefixtures("worker")
def test_fields_without_a_file_do_not_count(client: FlaskClient, dog: bytes) -> None:
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n%b\r\n' % part
        for part in ((b"", b""), (b"dog.jpeg", dog))
    ]
    page = client.post("/", data=b"".join([*parts, b"--x--\r\n"]), content_type="multipart/form-data; boundary=x")
    assert "Eskimo dog</h2>" in page.text


PART = {"HX-Request": "true"}


@pytest.mark.usefixtures("worker")
def test_the_page_itself_is_answered_with_the_part_that_changes(client: FlaskClient, dog: bytes) -> None:
    part = client.post("/", data=pictures(("dog.jpeg", dog)), headers=PART).text
    assert "Eskimo dog</h2>" in part
    assert "<html" not in part


def test_the_page_itself_is_told_what_is_wrong_with_a_file(client: FlaskClient) -> None:
    part = client.post("/", data=pictures(("dog.jpeg", b"hello")), headers=PART)
    assert (part.status_code, part.headers["X-Error"].split(":")[0]) == (400, "not-an-image")
    assert part.text.strip() == f'<p role="alert">{NotAnImage.message}</p>'


def test_what_may_go_better_later_can_be_tried_again(client: FlaskClient, worker: FakeWorker, dog: bytes) -> None:
    worker.outcome = JobFailure.of(QueueFull(retry_after_s=3))
    assert "Try again</button>" not in client.post("/", data=pictures(("dog.jpeg", dog)), headers=PART).text
    worker.stop()
    part = client.post("/", data=pictures(("dog.jpeg", dog)), headers=PART)
    assert part.status_code == 503
    assert "Try again</button>" in part.text


def test_the_labels_of_the_model_are_offered_as_people_write_them(client: FlaskClient, queue: MemoryJobQueue) -> None:
    queue.heartbeat("w1", 0.1, "m1")
    queue.publish(ModelInfo("m1", labels=("Eskimo_dog", "crane", "<b>", "crane")))
    assert re.findall('value="([^"]*)"', client.get("/labels").text) == ["Eskimo dog", "crane", "&lt;b&gt;"]


def test_a_whole_page_with_an_answer_has_the_labels_with_it(
    client: FlaskClient, queue: MemoryJobQueue, worker: FakeWorker, dog: bytes
) -> None:
    queue.publish(ModelInfo("m1", labels=("Eskimo_dog", "malamute")))
    assert worker.outcome
    assert '<option value="malamute">' in client.post("/", data=pictures(("dog.jpeg", dog))).text
    assert "<option" not in client.get("/").text


def test_while_the_queue_is_away_there_are_no_labels(
    client: FlaskClient, queue: MemoryJobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> list[str]:
        raise QueueUnavailable

    monkeypatch.setattr(queue, "labels", away)
    labels = client.get("/labels")
    assert (labels.status_code, labels.text.strip()) == (200, "")
