"""`POST /predict`, as other programs use it."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from api.tests.conftest import DOG, FakeWorker, MakeApp
from jobs.queue.memory import MemoryJobQueue
from jobs.schema import ImageJob, JobFailure, Timings
from runtime.errors import InferenceFailed, NotAnImage

FAILED = {"success": False, "prediction": None, "score": None}


def post(client: FlaskClient, data: bytes, filename: str = "photo.jpg") -> TestResponse:
    return client.post("/predict", data={"file": (io.BytesIO(data), filename)})


def image_file(image_format: str, size: tuple[int, int] = (8, 6)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, image_format)
    return file.getvalue()


@pytest.mark.usefixtures("worker")
def test_an_image_gets_its_class_and_a_score_of_four_places(client: FlaskClient, dog: bytes) -> None:
    response = post(client, dog)
    assert response.status_code == 200
    assert response.get_json() == {"success": True, "prediction": "Eskimo_dog", "score": 0.6404}


@pytest.mark.parametrize(
    ("image_format", "filename", "extension"),
    [
        ("JPEG", "dog.jpeg", ".jpeg"),
        ("JPEG", "DOG.JPG", ".jpg"),
        ("PNG", "dog.png", ".png"),
        ("GIF", "dog.GIF", ".gif"),
        ("PNG", "really-a-png.jpg", ".png"),
    ],
)
def test_an_upload_is_stored_under_its_hash_and_the_ending_of_its_content(
    client: FlaskClient, worker: FakeWorker, tmp_path: Path, image_format: str, filename: str, extension: str
) -> None:
    data = image_file(image_format)
    assert post(client, data, filename).status_code == 200
    [name] = worker.image_names
    assert name.endswith(extension)
    assert len(Path(name).stem) == 64
    assert (tmp_path / "uploads" / name).read_bytes() == data


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("data", "filename", "reason"),
    [
        (b"hello", "text.jpg", "not-an-image"),
        (b"\x89PNG\r\n\x1a\n", "header-only.png", "not-an-image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "picture.svg", "unsupported-file"),
        (image_file("BMP"), "bitmap.png", "not-an-image"),
        (image_file("PNG"), "image.txt", "unsupported-file"),
        (image_file("PNG"), "image.png.PDF", "unsupported-file"),
        (b"hello", "blob", "not-an-image"),
    ],
)
def test_what_is_no_image_is_refused_with_the_reason(
    client: FlaskClient, data: bytes, filename: str, reason: str
) -> None:
    response = post(client, data, filename)
    assert response.status_code == 400
    assert response.get_json() == FAILED
    assert response.headers["X-Error"].startswith(reason)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    "filename", ["blob", "file", "image.jfif", "photo.JPG.tmp", "2026.11.28", "C:\\dogs\\dog", ".png"]
)
def test_where_a_name_does_not_say_what_a_file_is_its_content_does(client: FlaskClient, filename: str) -> None:
    assert post(client, image_file("PNG"), filename).status_code == 200


@pytest.mark.parametrize(
    "form",
    [{}, {"file": "a text, not a file"}, {"picture": (io.BytesIO(b"data"), "photo.jpg")}],
)
def test_a_request_without_a_file_is_refused(client: FlaskClient, form: dict[str, object]) -> None:
    response = client.post("/predict", data=form)
    assert response.status_code == 400
    assert response.get_json() == FAILED
    assert response.headers["X-Error"].startswith("no-file")


def test_a_body_that_is_no_form_is_refused(client: FlaskClient, dog: bytes) -> None:
    response = client.post("/predict", data=dog, content_type="image/jpeg")
    assert (response.status_code, response.get_json()) == (400, FAILED)


def test_a_file_with_too_many_bytes_is_refused(make_app: MakeApp) -> None:
    response = post(make_app(max_upload_bytes=10).test_client(), image_file("PNG"))
    assert (response.status_code, response.get_json()) == (413, FAILED)
    assert "at most 10" in response.headers["X-Error"]


def test_a_body_that_is_far_too_large_is_refused_unread(make_app: MakeApp) -> None:
    response = post(make_app(max_upload_bytes=10).test_client(), bytes(100_000))
    assert (response.status_code, response.get_json()) == (413, FAILED)


def test_an_image_with_too_many_pixels_is_refused_before_it_is_decoded(make_app: MakeApp, tmp_path: Path) -> None:
    response = post(make_app(max_image_pixels=100).test_client(), image_file("PNG", (101, 1)), "wide.png")
    assert (response.status_code, response.get_json()) == (413, FAILED)
    assert not (tmp_path / "uploads").exists()


@pytest.mark.parametrize(("error", "status"), [(NotAnImage("It is truncated."), 400), (InferenceFailed(), 500)])
def test_a_failure_in_the_worker_is_passed_on(
    client: FlaskClient, worker: FakeWorker, dog: bytes, error: NotAnImage | InferenceFailed, status: int
) -> None:
    worker.outcome = JobFailure.of(error)
    response = post(client, dog)
    assert (response.status_code, response.get_json()) == (status, FAILED)
    assert response.headers["X-Error"] == f"{error.code}: {error}"


def test_without_a_worker_the_answer_says_when_to_come_back(client: FlaskClient, dog: bytes) -> None:
    response = post(client, dog)
    assert (response.status_code, response.get_json()) == (503, FAILED)
    assert int(response.headers["Retry-After"]) > 0


def test_a_full_queue_refuses_with_the_time_to_come_back(
    client: FlaskClient, queue: MemoryJobQueue, dog: bytes
) -> None:
    queue.heartbeat("busy", 1.0, "m1")
    for number in range(3):
        queue.submit(ImageJob.create(f"{number}.jpg", 10))
    response = post(client, dog)
    assert (response.status_code, response.get_json()) == (429, FAILED)
    assert int(response.headers["Retry-After"]) > 0


def test_an_answer_that_does_not_come_ends_at_the_deadline(
    make_app: MakeApp, queue: MemoryJobQueue, dog: bytes
) -> None:
    queue.heartbeat("hung", 1.0, "m1")
    response = post(make_app(predict_timeout_s=0.05).test_client(), dog)
    assert (response.status_code, response.get_json()) == (504, FAILED)


def test_a_full_disk_is_reported_and_nothing_half_written_stays(make_app: MakeApp, tmp_path: Path, dog: bytes) -> None:
    not_a_folder = tmp_path / "file"
    not_a_folder.touch()
    response = post(make_app(upload_folder=not_a_folder).test_client(), dog)
    assert (response.status_code, response.get_json()) == (503, FAILED)
    assert response.headers["X-Error"].startswith("storage-unavailable")


def test_an_unforeseen_exception_still_gives_the_fixed_answer(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    monkeypatch.setattr("api.views.image_name", lambda *_: 1 / 0)
    response = post(app.test_client(), b"data")
    assert (response.status_code, response.get_json()) == (500, FAILED)


def test_the_header_server_timing_says_where_the_time_went(client: FlaskClient, worker: FakeWorker, dog: bytes) -> None:
    worker.outcome = replace(DOG, timings=Timings(queue_ms=1, decode_ms=2.25, inference_ms=10, batch_size=4))
    computed = post(client, dog).headers["Server-Timing"]
    assert re.fullmatch(
        r'queue;dur=1\.0, decode;dur=2\.2, inference;dur=10\.0, batch;desc="4", total;dur=\d+\.\d', computed
    )
    assert post(client, dog).headers["Server-Timing"].startswith("cache, total;dur=")
    assert "Server-Timing" not in post(client, b"").headers


def test_server_timing_of_several_pictures_is_that_of_the_slowest(
    client: FlaskClient, worker: FakeWorker, dog: bytes
) -> None:
    worker.outcome = replace(DOG, timings=Timings(queue_ms=1, decode_ms=2, inference_ms=10, batch_size=4))
    post(client, dog)
    worker.outcome = replace(DOG, timings=Timings(queue_ms=9, decode_ms=2, inference_ms=10, batch_size=2))
    cached_and_not = {"file": [(io.BytesIO(dog), "1.jpeg"), (io.BytesIO(dog + b"2"), "2.jpeg")]}
    assert client.post("/", data=cached_and_not).headers["Server-Timing"].startswith("queue;dur=9.0, decode;dur=2.0, ")
    cached = {"file": [(io.BytesIO(dog), "1.jpeg"), (io.BytesIO(dog + b"2"), "2.jpeg")]}
    assert client.post("/", data=cached).headers["Server-Timing"].startswith("cache, total;dur=")


def test_an_image_that_was_reported_as_wrong_is_classified_anew(
    client: FlaskClient, worker: FakeWorker, dog: bytes
) -> None:
    for _ in range(2):
        assert post(client, dog).status_code == 200
    [name] = worker.image_names
    client.post("/feedback", data={"report": json.dumps({"filename": name, "prediction": "Eskimo_dog", "score": 0.64})})
    post(client, dog)
    assert worker.image_names == [name, name]


@pytest.mark.parametrize("report", ["[]", "7", '"x"', "{}", '{"filename": 7}', '{"filename": "../x"}', "no JSON"])
def test_a_report_about_nothing_is_kept_all_the_same(client: FlaskClient, report: str) -> None:
    assert client.post("/feedback", data={"report": report}).status_code == 200


def test_get_is_not_allowed(client: FlaskClient) -> None:
    assert client.get("/predict").status_code == 405


@pytest.mark.parametrize(("without_worker", "status"), [(False, 503), (True, 200)])
def test_the_service_is_ready_without_a_worker_only_where_images_may_wait_for_one(
    make_app: MakeApp, without_worker: bool, status: int
) -> None:
    assert make_app(queue_without_worker=without_worker).test_client().get("/readyz").status_code == status
