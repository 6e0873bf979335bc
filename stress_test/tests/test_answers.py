"""Which answers count as a success, and failures that look like one."""

import json
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.app import create_app
from api.settings import ApiSettings
from jobs.queue.memory import MemoryJobQueue
from testing.answers import Answer, WrongAnswer, read_page, read_prediction, read_thanks

GOOD = {"success": True, "prediction": "Eskimo_dog", "score": 0.64}


def ok(body: object) -> Answer:
    return Answer(200, {}, body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize("score", [0, 0.0, 0.64, 1, 1.0])
def test_the_promised_answer_is_a_success(score: float) -> None:
    assert read_prediction(ok({**GOOD, "score": score})) == ("Eskimo_dog", score)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"success": False, "prediction": None, "score": None}, "not a success"),
        ({**GOOD, "success": False}, "not a success"),
        ({**GOOD, "success": 1}, "not a success"),
        ({**GOOD, "success": "true"}, "not a success"),
        ({**GOOD, "error": "none"}, "not a success"),
        ({"prediction": "Eskimo_dog", "score": 0.64}, "not a success"),
        ({"success": True, "label": "Eskimo_dog", "score": 0.64}, "not a success"),
        ({**GOOD, "prediction": None}, "not a success"),
        ({**GOOD, "prediction": " "}, "the prediction is empty"),
        ({**GOOD, "score": "0.64"}, "not a success"),
        ({**GOOD, "score": None}, "not a success"),
        ({**GOOD, "score": True}, "the score is not from 0 to 1"),
        ({**GOOD, "score": float("nan")}, "the score is not from 0 to 1"),
        ({**GOOD, "score": float("inf")}, "the score is not from 0 to 1"),
        ({**GOOD, "score": 2}, "the score is not from 0 to 1"),
        ({**GOOD, "score": -0.1}, "the score is not from 0 to 1"),
        ([GOOD], "not a success"),
        (None, "not a success"),
        (b"", "not JSON"),
        (b"<!doctype html><title>What is in this picture?</title>", "not JSON: <!doctype html>"),
        (b'{"success": true, "prediction": "Eskim', "not JSON"),
        (b"\xff\xd8\xff", "not JSON"),
    ],
)
def test_a_prediction_with_status_200_that_is_not_as_promised_is_a_failure(body: object, reason: str) -> None:
    with pytest.raises(WrongAnswer, match=f"^200, but.*{reason}"):
        read_prediction(ok(body))


@pytest.mark.parametrize(
    ("status", "headers", "reason"),
    [
        (500, {}, "500 without an X-Error header"),
        (302, {"location": "/?error=not-an-image"}, "302 without an X-Error header"),
        (201, {}, "201 without an X-Error header"),
        (400, {"x-error": "no-file: Choose an image"}, "400 no-file: Choose an image"),
        (429, {"x-error": "queue-full: Too many", "retry-after": "7"}, "429 queue-full: Too many (Retry-After)"),
        (
            503,
            {"x-error": "no-worker: None is alive", "retry-after": "5"},
            "503 no-worker: None is alive (Retry-After)",
        ),
    ],
)
def test_another_status_is_a_failure_whatever_the_body_says(status: int, headers: dict[str, str], reason: str) -> None:
    with pytest.raises(WrongAnswer) as failure:
        read_prediction(Answer(status, headers, ok(GOOD).body))
    assert str(failure.value) == reason


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    settings = ApiSettings(upload_folder=tmp_path, feedback_filepath=tmp_path / "feedback")
    return create_app(settings, MemoryJobQueue(max_jobs=1)).test_client()


def answer(response: TestResponse) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, response.data)


def test_the_services_page_and_thanks_are_successes(client: FlaskClient) -> None:
    read_page(answer(client.get("/")))
    read_thanks(answer(client.post("/feedback", data={"report": "{}"})))


def test_a_page_without_thanks_is_a_failure_of_the_feedback(client: FlaskClient) -> None:
    with pytest.raises(WrongAnswer, match="the report was not kept"):
        read_thanks(answer(client.get("/")))


def test_something_else_with_status_200_is_no_page() -> None:
    with pytest.raises(WrongAnswer, match="not the page"):
        read_page(ok(b"<h1>Welcome to nginx!</h1>"))


def test_the_services_refusal_is_a_failure_with_its_reason(client: FlaskClient) -> None:
    with pytest.raises(WrongAnswer, match=r"^400 no-file: Choose an image first"):
        read_prediction(answer(client.post("/predict")))
