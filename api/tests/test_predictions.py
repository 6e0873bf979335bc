"""`/v1/predictions`, as other programs use it."""

import base64
import io
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.tests.conftest import DOG, FakeWorker, MakeApp
from api.v1 import documents
from jobs.queue.interface import Admission
from jobs.queue.memory import MemoryJobQueue
from jobs.schema import ImageJob, JobFailure, ModelInfo, Timings
from runtime.errors import InferenceFailed, error_types

PATH = "/v1/predictions"
LATER = {"Prefer": "respond-async"}


@pytest.fixture
def queue() -> MemoryJobQueue:
    queue = MemoryJobQueue(max_jobs=8, cache_ttl_s=60)
    queue.publish(ModelInfo("m1", "pets", "7", "f32", 224, 192, "crop", ("cat", "Eskimo_dog")))
    return queue


@pytest.fixture
def idle_worker(queue: MemoryJobQueue) -> Iterator[FakeWorker]:
    """Run a live worker that finishes nothing until the test sets an outcome."""
    worker = FakeWorker(queue)
    worker.outcome = None
    yield worker
    worker.stop()


def png(number: int) -> bytes:
    """Return the beginning of a PNG file, which is all that the API checks."""
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\2\0\0\0\2\x08\2\0\0\0" + number.to_bytes(4, "big")


def form(*files: tuple[str, bytes], **fields: str) -> dict[str, Any]:
    return {"file": [(io.BytesIO(data), name) for name, data in files], **fields}


def in_json(*images: bytes, **others: object) -> dict[str, Any]:
    return {"images": [{"data": base64.b64encode(data).decode()} for data in images], **others}


def check(response: TestResponse) -> Any:
    """Return the response's document, after checking it against its model."""
    answer = response.get_json()
    document = documents.Prediction.model_validate(answer, extra="forbid")
    assert [len(result.predictions or []) > 0 for result in document.results] == [
        result["error"] is None and answer["status"] == "done" for result in answer["results"]
    ]
    return answer


def check_problem(response: TestResponse, status: int, code: str) -> Any:
    assert (response.status_code, response.mimetype) == (status, "application/problem+json")
    answer = response.get_json()
    documents.Problem.model_validate(answer, extra="forbid")
    assert (answer["status"], answer["code"]) == (status, code)
    assert answer["type"] == (f"/v1/problems/{code}" if code in error_types() else "about:blank")
    assert response.headers["X-Request-ID"] == answer["request_id"]
    return answer


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("request_of", "filename"),
    [
        (lambda dog: {"data": form(("dog.jpeg", dog))}, "dog.jpeg"),
        (lambda dog: {"data": form(("no ending at all", dog))}, "no ending at all"),
        (lambda dog: {"data": form(("ü" * 200, dog))}, "ü" * 127),
        (lambda dog: {"data": dog, "content_type": "image/jpeg"}, None),
        (lambda dog: {"json": in_json(dog)}, None),
        (lambda dog: {"json": {"images": [{"data": base64.b64encode(dog).decode(), "filename": "rex"}]}}, "rex"),
        (lambda dog: {"json": {"images": [{**in_json(dog)["images"][0], "filename": "ü" * 200}]}}, "ü" * 127),
        (lambda dog: {"json": {"images": [{"data": base64.encodebytes(dog).decode()}]}}, None),
    ],
    ids=[
        *("form", "form without an ending", "form with a long name", "bytes", "JSON", "JSON with a name", "JSON, long"),
        "JSON with lines of base64",
    ],
)
def test_an_image_gets_its_classes_however_it_is_sent(
    client: FlaskClient, dog: bytes, request_of: Any, filename: str | None
) -> None:
    response = client.post(PATH, **request_of(dog))
    assert response.status_code == 200
    answer = check(response)
    assert (answer["status"], answer["model"]) == ("done", {"name": "pets", "version": "7"})
    [result] = answer["results"]
    assert result["filename"] == filename
    assert len(result["image"]) == 64
    assert result["predictions"] == [
        {"label": "Eskimo_dog", "class_index": 248, "score": 0.6404},
        {"label": "malamute", "class_index": 249, "score": 0.2},
    ]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    "content_type",
    [
        *("image/jpg", "image/pjpeg", "image/jfif", "image/x-png", "image/apng", "image/x-gif", "image/*", "IMAGE/PNG"),
        *(
            "image/JPEG; charset=binary",
            "image/png;",
            "application/octet-stream",
            "Binary/Octet-Stream",
            "*/*",
            "",
            None,
        ),
        *("image/jpe", "image/pipeg", "application/x-png", "application/jpg", "application/force-download"),
        *("application/octet-stream; charset=utf-8", "application/x-binary", "application/x-www-form-urlencoded"),
    ],
)
def test_an_image_is_taken_under_any_name_of_its_type(
    client: FlaskClient, dog: bytes, content_type: str | None
) -> None:
    answer = check(client.post(PATH, data=dog, content_type=content_type, query_string={"top_k": "1"}))
    assert answer["results"][0]["predictions"] == [{"label": "Eskimo_dog", "class_index": 248, "score": 0.6404}]


@pytest.mark.usefixtures("worker")
def test_json_may_be_of_a_type_of_its_own(client: FlaskClient, dog: bytes) -> None:
    data = json.dumps(in_json(dog)).encode()
    check(client.post(PATH, data=data, content_type="application/vnd.pictures+json; charset=utf-8"))


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    "request_of",
    [
        lambda dog: {"data": form(("dog.jpeg", dog), top_k="1", model="pets")},
        lambda dog: {"data": form(("dog.jpeg", dog), top_k="4"), "query_string": {"top_k": "1"}},
        lambda dog: {"data": dog, "content_type": "image/jpeg", "query_string": {"top_k": "1", "model": "pets"}},
        lambda dog: {"json": in_json(dog, top_k=1, model="pets@7")},
        lambda dog: {"json": in_json(dog), "query_string": {"top_k": "1"}},
    ],
)
def test_as_many_classes_are_told_as_are_wanted(client: FlaskClient, dog: bytes, request_of: Any) -> None:
    [result] = check(client.post(PATH, **request_of(dog)))["results"]
    assert [each["label"] for each in result["predictions"]] == ["Eskimo_dog"]


def test_the_timings_of_a_computed_answer_are_told_and_a_cached_one_has_none(
    client: FlaskClient, worker: FakeWorker, dog: bytes
) -> None:
    worker.outcome = replace(DOG, timings=Timings(1.126, 2, 3, 4))
    timings = [check(client.post(PATH, data=form(("a.jpg", dog))))["results"][0]["timings"] for _ in range(2)]
    assert timings == [{"queue_ms": 1.13, "decode_ms": 2, "inference_ms": 3, "batch_size": 4}, None]


@pytest.mark.usefixtures("worker")
def test_a_bad_image_fails_alone_and_results_stand_in_the_order_of_the_images(client: FlaskClient) -> None:
    response = client.post(PATH, data=form(("1.png", png(1)), ("x.png", b"no image"), ("2.png", png(2))))
    assert response.status_code == 200
    results = check(response)["results"]
    assert [result["filename"] for result in results] == ["1.png", "x.png", "2.png"]
    assert [result["error"] and result["error"]["code"] for result in results] == [None, "not-an-image", None]


@pytest.mark.usefixtures("worker")
def test_where_all_images_fail_for_the_same_reason_that_is_the_answer(client: FlaskClient) -> None:
    check_problem(client.post(PATH, data=form(("x.png", b"1"), ("y.png", b"2"))), 400, "not-an-image")


def test_a_failure_in_the_worker_is_passed_on(client: FlaskClient, worker: FakeWorker, dog: bytes) -> None:
    worker.outcome = JobFailure.of(InferenceFailed())
    check_problem(client.post(PATH, data=form(("dog.jpeg", dog))), 500, "inference-failed")


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("request_of", "status", "code"),
    [
        ({}, 415, "unsupported-media-type"),
        ({"data": "text", "content_type": "text/plain"}, 415, "unsupported-media-type"),
        ({"data": "text", "content_type": "application/x-www-form-urlencoded"}, 415, "unsupported-media-type"),
        ({"data": "text", "content_type": ""}, 415, "unsupported-media-type"),
        ({"data": png(1), "content_type": "image/webp"}, 415, "unsupported-media-type"),
        ({"data": png(1), "content_type": "image/svg+xml"}, 415, "unsupported-media-type"),
        ({"data": png(1), "content_type": "multipart/mixed"}, 415, "unsupported-media-type"),
        ({"data": "text", "content_type": "application/octet-stream"}, 400, "not-an-image"),
        ({"data": {"picture": "none"}, "content_type": "multipart/form-data"}, 400, "no-file"),
        ({"data": form(*[(f"{n}.png", png(n)) for n in range(17)])}, 413, "too-many-images"),
        ({"data": form(("a.png", png(1)), top_k="6")}, 400, "bad-parameter"),
        ({"data": form(("a.png", png(1)), top_k="all")}, 400, "bad-parameter"),
        ({"data": form(("a.png", png(1)), model="cars")}, 404, "no-such-model"),
        ({"data": form(("a.png", png(1)), model="pets@8")}, 404, "no-such-model"),
        ({"data": b"", "content_type": "image/png"}, 400, "not-an-image"),
        ({"json": []}, 400, "bad-parameter"),
        ({"data": b"[" + b"0," * 300_001, "content_type": "application/json"}, 413, "too-many-values"),
        ({"data": b"[" * 100_001, "content_type": "application/json"}, 413, "too-many-values"),
        ({"json": {"images": []}}, 400, "bad-parameter"),
        ({"json": {"images": [{"data": "?"}]}}, 400, "bad-parameter"),
        ({"json": {"images": [{"data": "data:image/png,%89PNG"}]}}, 400, "bad-parameter"),
        ({"json": {"images": [{"url": "http://x"}]}}, 400, "bad-parameter"),
        ({"json": {"images": [{"data": "", "\r\nX-Forged: 1": 1}]}}, 400, "bad-parameter"),
        ({"json": {"images": [{"data": "", "名": 1}]}}, 400, "bad-parameter"),
        ({"data": "{", "content_type": "application/json"}, 400, "bad-parameter"),
        ({"data": "[" * 100_000, "content_type": "application/json", "query_string": "top_k=1"}, 400, "bad-parameter"),
        ({"data": b"\xff\xfe", "content_type": "application/json"}, 400, "bad-parameter"),
    ],
)
def test_what_cannot_be_understood_is_a_problem(client: FlaskClient, request_of: Any, status: int, code: str) -> None:
    check_problem(client.post(PATH, **request_of), status, code)


@pytest.mark.usefixtures("worker")
def test_a_field_of_a_form_that_is_left_blank_counts_as_not_sent(client: FlaskClient) -> None:
    blank = {"top_k": "", "model": " ", "webhook": ""}
    assert client.post(PATH, data=form(("a.png", png(1)), **blank)).status_code == 200
    assert client.post(PATH, data=form(("a.png", png(1))), query_string={"top_k": ""}).status_code == 400


@pytest.mark.parametrize(
    ("request_of", "detail"),
    [
        ({"data": png(1), "content_type": "application/json"}, "body: it is an image, not JSON"),
        ({"json": {"images": ["aGVsbG8="]}}, "images.0: Input should be an object"),
    ],
)
def test_json_that_is_no_request_says_what_it_should_be(client: FlaskClient, request_of: Any, detail: str) -> None:
    assert check_problem(client.post(PATH, **request_of), 400, "bad-parameter")["detail"].startswith(detail)


def test_the_image_whose_text_is_wrong_is_named(client: FlaskClient) -> None:
    document = {"images": [*in_json(png(1))["images"], {"data": "http://pictures.example/dog.jpeg"}]}
    problem = check_problem(client.post(PATH, json=document), 400, "bad-parameter")
    assert problem["detail"].startswith("images.1.data: it has characters that are not base64.")


def test_limits_are_those_of_an_image_and_of_the_request(make_app: MakeApp, queue: MemoryJobQueue) -> None:
    queue.heartbeat("w1", 0.01, "m1")
    client = make_app(max_upload_bytes=1000, max_request_bytes=5000).test_client()
    check_problem(client.post(PATH, data=bytes(1001), content_type="image/png"), 413, "too-many-bytes")
    problem = check_problem(client.post(PATH, data=bytes(5001), content_type="image/png"), 413, "too-many-bytes")
    assert "5000" in problem["detail"]


def test_without_a_worker_it_says_when_to_come_back(client: FlaskClient, dog: bytes) -> None:
    for headers in ({}, LATER):
        response = client.post(PATH, data=form(("dog.jpeg", dog)), headers=headers)
        check_problem(response, 503, "no-worker")
        assert int(response.headers["Retry-After"]) > 0


def test_a_prediction_that_was_answered_at_once_can_be_read_again(client: FlaskClient, worker: FakeWorker) -> None:
    answer = check(client.post(PATH, data=form(("1.png", png(1)), ("x.png", b"no image"), top_k="1")))
    worker.stop()
    again = client.get(f"{PATH}/{answer['id']}")
    assert again.status_code == 200
    assert check(again) == answer


@pytest.mark.usefixtures("worker")
def test_a_prediction_is_not_kept_where_nobody_will_ask_for_it(client: FlaskClient) -> None:
    headers = {"Cache-Control": "no-store"}
    answer = check(client.post(PATH, data=form(("1.png", png(1))), headers=headers))
    check_problem(client.get(f"{PATH}/{answer['id']}"), 404, "no-such-prediction")
    later = client.post(PATH, data=form(("2.png", png(2))), headers={**headers, **LATER}).headers["Location"]
    assert check(client.get(later, query_string={"wait": "10"}))["status"] == "done"


def test_a_prediction_that_nobody_waits_for_is_accepted_at_once_and_there_later(
    client: FlaskClient, idle_worker: FakeWorker
) -> None:
    response = client.post(PATH, data=form(("1.png", png(1)), ("x.png", b"none"), top_k="1"), headers=LATER)
    assert (response.status_code, response.headers["Preference-Applied"]) == (202, "respond-async")
    assert int(response.headers["Retry-After"]) > 0
    accepted = check(response)
    assert (accepted["status"], accepted["model"]) == ("pending", None)
    location = response.headers["Location"]
    assert location == f"{PATH}/{accepted['id']}"
    assert check(client.get(location)) == accepted

    idle_worker.outcome = DOG
    done = check(client.get(location, query_string={"wait": "10"}))
    assert (done["status"], done["created"]) == ("done", accepted["created"])
    assert [result["error"] and result["error"]["code"] for result in done["results"]] == [None, "not-an-image"]


@pytest.mark.parametrize(
    ("headers", "lane"),
    [
        ({}, "interactive"),
        ({"Priority": "u=5"}, "bulk"),
        ({"Priority": "u=bulk"}, "interactive"),
        (LATER, "bulk"),
        ({**LATER, "Priority": "u=3"}, "interactive"),
    ],
)
def test_jobs_wait_where_the_request_says(
    client: FlaskClient, worker: FakeWorker, headers: dict[str, str], lane: str
) -> None:
    answer = check(client.post(PATH, data=form(("1.png", png(1)), ("2.png", png(2))), headers=headers))
    assert check(client.get(f"{PATH}/{answer['id']}", query_string={"wait": "10"}))["status"] == "done"
    assert worker.lanes == [lane, lane]


@pytest.mark.usefixtures("idle_worker")
def test_who_waits_for_a_prediction_gets_it_as_it_is_when_that_time_is_over(client: FlaskClient) -> None:
    location = client.post(PATH, data=png(1), content_type="image/png", headers=LATER).headers["Location"]
    response = client.get(location, query_string={"wait": "0.05"})
    assert (response.status_code, check(response)["status"]) == (200, "pending")
    assert response.headers["Retry-After"]


@pytest.mark.usefixtures("idle_worker")
@pytest.mark.parametrize("wait", ["-1", "61", "long", "nan"])
def test_a_wait_that_cannot_be_is_a_problem(client: FlaskClient, wait: str) -> None:
    location = client.post(PATH, data=png(1), content_type="image/png", headers=LATER).headers["Location"]
    check_problem(client.get(location, query_string={"wait": wait}), 400, "bad-parameter")


@pytest.mark.usefixtures("idle_worker")
def test_images_that_find_no_place_fail_alone_and_a_request_without_any_is_refused(client: FlaskClient) -> None:
    files = [(f"{number}.png", png(number)) for number in range(5)]
    results = check(client.post(PATH, data=form(*files), headers=LATER))["results"]
    assert [result["error"] and result["error"]["code"] for result in results] == [None] * 4 + ["queue-full"]
    response = client.post(PATH, data=form(("6.png", png(6))), headers=LATER)
    check_problem(response, 429, "queue-full")
    assert int(response.headers["Retry-After"]) > 0


def test_with_an_image_that_found_no_place_the_answer_says_when_to_send_it_again(
    client: FlaskClient, idle_worker: FakeWorker
) -> None:
    files = [(f"{number}.png", png(number)) for number in range(5)]
    location = client.post(PATH, data=form(*files), headers=LATER).headers["Location"]
    idle_worker.outcome = DOG
    done = client.get(location, query_string={"wait": "10"})
    assert check(done)["status"] == "done"
    assert int(done.headers["Retry-After"]) > 0
    assert "Retry-After" not in client.post(PATH, data=form(files[0], ("x.png", b"no image"))).headers


@pytest.mark.parametrize("prediction_id", ["none", "0" * 32, "%00", "ä"])
def test_a_prediction_that_is_not_kept_is_a_problem(client: FlaskClient, prediction_id: str) -> None:
    check_problem(client.get(f"{PATH}/{prediction_id}"), 404, "no-such-prediction")


def test_a_request_that_is_sent_again_with_its_key_is_answered_as_before(
    client: FlaskClient, worker: FakeWorker, dog: bytes
) -> None:
    key = {"Idempotency-Key": "order-7"}
    first = client.post(PATH, data=form(("dog.jpeg", dog)), headers=key)
    again = client.post(PATH, data=form(("dog.jpeg", dog)), headers=key)  # with another boundary
    assert (again.status_code, again.get_json()) == (200, first.get_json())
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(worker.image_names) == 1
    assert client.post(PATH, data=form(("dog.jpeg", dog))).get_json()["id"] != first.get_json()["id"]


@pytest.mark.usefixtures("worker")
def test_a_request_for_later_that_is_sent_again_is_accepted_as_before(client: FlaskClient, dog: bytes) -> None:
    headers = {**LATER, "Idempotency-Key": "order-7"}
    first, again = (client.post(PATH, data=form(("dog.jpeg", dog)), headers=headers) for _ in range(2))
    assert (again.status_code, again.headers["Location"]) == (202, first.headers["Location"])


@pytest.mark.usefixtures("worker")
def test_another_request_with_the_same_key_is_a_problem(client: FlaskClient, dog: bytes) -> None:
    key = {"Idempotency-Key": "order-7"}
    client.post(PATH, data=form(("dog.jpeg", dog)), headers=key)
    for other in (form(("dog.jpeg", png(1))), form(("dog.jpeg", dog), top_k="1"), form(("cat.jpeg", dog))):
        check_problem(client.post(PATH, data=other, headers=key), 422, "idempotency-key-reused")


def test_a_request_that_is_in_work_is_not_begun_again(client: FlaskClient, idle_worker: FakeWorker) -> None:
    def send() -> TestResponse:
        return client.application.test_client().post(
            PATH, data=png(1), content_type="image/png", headers={"Idempotency-Key": "order-7"}
        )

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send)
        deadline = time.monotonic() + 10
        while not idle_worker.image_names and time.monotonic() < deadline:
            pass
        response = send()
        idle_worker.outcome = DOG
        assert first.result().status_code == 200
    check_problem(response, 409, "idempotency-key-in-use")
    assert int(response.headers["Retry-After"]) > 0
    assert send().get_json() == first.result().get_json()


def test_a_request_that_failed_may_be_sent_again_with_its_key(client: FlaskClient, worker: FakeWorker) -> None:
    worker.outcome = JobFailure.of(InferenceFailed())
    key = {"Idempotency-Key": "order-7"}
    assert client.post(PATH, data=png(1), content_type="image/png", headers=key).status_code == 500
    worker.outcome = DOG
    assert client.post(PATH, data=png(1), content_type="image/png", headers=key).status_code == 200


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"status": 200}', '{"fingerprint": "x", "status": "fine"}'])
def test_what_is_kept_under_a_key_and_damaged_is_forgotten(
    client: FlaskClient, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch, damaged: str
) -> None:
    worker.outcome = DOG
    key = {"Idempotency-Key": "order-7"}
    with monkeypatch.context() as patched:
        patched.setattr("api.v1.idempotency.json.dumps", lambda _: damaged)
        client.post(PATH, data=png(1), content_type="image/png", headers=key)
    answers = [client.post(PATH, data=png(1), content_type="image/png", headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [409, 200]


@pytest.mark.parametrize("key", ["", "two words", "x" * 256, "ä"])
def test_a_key_that_is_not_sane_is_a_problem(client: FlaskClient, key: str) -> None:
    response = client.post(PATH, data=png(1), content_type="image/png", headers={"Idempotency-Key": key})
    check_problem(response, 400, "bad-parameter")


def test_errors_under_v1_are_problems_whatever_they_are(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app()
    client = app.test_client()
    check_problem(client.get("/v1/nothing"), 404, "not-found")
    response = client.put(PATH)
    check_problem(response, 405, "method-not-allowed")
    assert set(response.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}
    check_problem(client.post(PATH, headers={"Sec-Fetch-Site": "cross-site"}), 403, "cross-site")
    monkeypatch.setattr("api.v1.predictions.store", lambda *_: 1 / 0)
    check_problem(client.post(PATH, data=png(1), content_type="image/png"), 500, "internal-error")


def test_clients_that_hang_up_leave_no_job(client: FlaskClient, queue: MemoryJobQueue) -> None:
    queue.heartbeat("w1", 0.01, "m1")
    submit = queue.submit

    def submit_and_hang_up(job: ImageJob) -> Admission:
        admission = submit(job)
        queue.cancel(job)
        return admission

    queue.submit = submit_and_hang_up  # type: ignore[method-assign]
    response = client.post(PATH, data=form(("1.png", png(1)), ("2.png", png(2))))
    assert response.status_code == 499
    assert queue.take_batch("w1", 8, 0.01) == []
