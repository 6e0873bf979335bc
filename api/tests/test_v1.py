"""The rest of `/v1`: models, feedback, problems, and the OpenAPI document."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.access.keys import KeyFile
from api.feedback import reports
from api.tests.conftest import DOG, FakeWorker, MakeApp
from api.tests.test_predictions import LATER, PATH, check_problem, form, png
from api.v1 import documents
from jobs.queue.memory import MemoryJobQueue
from jobs.schema import JobFailure, ModelInfo, Timings
from jobs.versions.rules import Route
from runtime.errors import InferenceFailed, QueueUnavailable, error_types


@pytest.fixture
def queue() -> MemoryJobQueue:
    queue = MemoryJobQueue(max_jobs=8, cache_ttl_s=60)
    queue.publish(ModelInfo("m1", "pets", "7", "f32", 224, 192, "crop", ("cat", "Eskimo_dog")))
    return queue


def predict(client: FlaskClient, *numbers: int, **headers: str) -> str:
    """Return the id of a prediction for some images."""
    files = [(f"{number}.png", png(number)) for number in numbers or (1,)]
    return str(client.post(PATH, data=form(*files), headers=headers).get_json()["id"])


def give(client: FlaskClient, prediction_id: str, **feedback: object) -> Any:
    response = client.post(f"{PATH}/{prediction_id}/feedback", json=feedback)
    assert response.status_code == 201, response.get_json()
    return response.get_json()


def listed(client: FlaskClient, **query: object) -> Any:
    response = client.get("/v1/feedback", query_string=query)
    assert response.status_code == 200, response.get_json()
    documents.FeedbackPage.model_validate(response.get_json(), extra="forbid")
    return response.get_json()


@pytest.mark.usefixtures("worker")
def test_the_model_that_is_served_is_told_with_its_labels_and_input(client: FlaskClient) -> None:
    summary = {"name": "pets", "version": "7", "precision": "f32", "classes": 2}
    assert client.get("/v1/models").get_json() == {"models": [summary]}
    size = {"height": 224, "width": 192, "resize": "crop"}
    assert client.get("/v1/models/pets").get_json() == {**summary, "input": size, "labels": ["cat", "Eskimo_dog"]}
    check_problem(client.get("/v1/models/cars"), 404, "no-such-model")


@pytest.mark.usefixtures("worker")
def test_the_versions_of_a_model_are_told_with_what_each_is_for(client: FlaskClient, queue: MemoryJobQueue) -> None:
    beside = queue.beside("pets@8")
    beside.publish(ModelInfo("m2", "pets", "8", "f32", 224, 192, "crop", ("cat", "dog", "bird")))
    beside.heartbeat("w2", 0.01, "m2")
    queue.change_route("pets", lambda _: Route("7", canary={"8": 5}))
    summary = {"name": "pets", "version": "7", "precision": "f32", "classes": 2}
    canary = {**summary, "version": "8", "classes": 3, "role": "canary", "percent": 5, "workers": 1, "ready": True}
    served = {**summary, "role": "serves", "percent": 95, "workers": 1, "ready": True}
    listed = client.get("/v1/models/pets/versions").get_json()
    assert listed == {"versions": [served, canary]}
    documents.Versions.model_validate(listed, extra="forbid")
    beside.retire("w2")
    version = client.get("/v1/models/pets/versions/8").get_json()
    documents.Version.model_validate(version, extra="forbid")
    assert version["labels"] == ["cat", "dog", "bird"]
    assert version.items() >= {**canary, "workers": 0, "ready": False}.items()
    assert client.get("/v1/models").get_json() == {"models": [summary]}


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("path", ["cars/versions", "cars/versions/7", "pets/versions/8"])
def test_versions_that_there_are_not_are_not_found(client: FlaskClient, path: str) -> None:
    check_problem(client.get(f"/v1/models/{path}"), 404, "no-such-model")


def test_before_there_is_a_worker_there_is_no_model(client: FlaskClient) -> None:
    assert client.get("/v1/models").get_json() == {"models": []}


@pytest.mark.usefixtures("worker")
def test_feedback_is_one_more_line_of_json(client: FlaskClient, tmp_path: Path) -> None:
    prediction_id = predict(client)
    record = give(client, prediction_id, correct=False, label="Samoyed", comment="white\nand “fluffy”")
    documents.FeedbackRecord.model_validate(record, extra="forbid")
    expected: dict[str, object] = {
        "prediction": prediction_id,
        "model": "pets",
        "version": "7",
        "predicted_label": "Eskimo_dog",
    }
    expected |= {"correct": False, "label": "Samoyed", "comment": "white\nand “fluffy”", "key": None}
    assert record.items() >= {**expected, "predicted_score": 0.6404}.items()
    [line] = (tmp_path / "feedback" / "feedback.jsonl").read_text().splitlines()
    assert json.loads(line) == record
    assert not (tmp_path / "feedback" / "feedback").exists()


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("said", "label"), [("eskimo dog ", "Eskimo_dog"), ("Eskimo_dog", "Eskimo_dog"), ("Grüner Hund", "Grüner Hund")]
)
def test_a_label_may_be_written_as_people_do(client: FlaskClient, said: str, label: str) -> None:
    assert give(client, predict(client), correct=False, label=said)["label"] == label
    assert [record["label"] for record in listed(client, label=label)["feedback"]] == [label]


@pytest.mark.usefixtures("worker")
def test_feedback_says_that_the_model_has_no_class_for_an_image(client: FlaskClient, tmp_path: Path) -> None:
    record = give(client, predict(client), correct=False, none=True)
    assert (record["label"], record["none"]) == (None, True)
    file = tmp_path / "feedback" / "feedback"
    assert [each.right for each in reports.latest(file, file.with_name("feedback.jsonl"))] == [reports.NO_CLASS]


@pytest.mark.usefixtures("worker")
def test_while_the_model_is_not_known_a_label_is_kept_as_it_is(
    client: FlaskClient, queue: MemoryJobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: object = None) -> ModelInfo:
        raise QueueUnavailable

    prediction_id = predict(client)
    monkeypatch.setattr(queue, "model", away)
    assert give(client, prediction_id, correct=False, label="eskimo dog")["label"] == "eskimo dog"


def test_the_image_of_a_wrong_prediction_is_kept_and_computed_anew(
    client: FlaskClient, worker: FakeWorker, tmp_path: Path
) -> None:
    give(client, predict(client, 1, 2), correct=False, image=1)
    assert [path.read_bytes() for path in (tmp_path / "feedback" / "images").iterdir()] == [png(2)]
    predict(client, 1, 2)
    assert len(worker.image_names) == 3


@pytest.mark.usefixtures("worker")
def test_feedback_that_is_sent_again_with_its_key_is_kept_once(client: FlaskClient) -> None:
    address, key = f"{PATH}/{predict(client)}/feedback", {"Idempotency-Key": "7"}
    first, again = (client.post(address, json={"correct": True}, headers=key) for _ in range(2))
    assert (again.status_code, again.get_json()) == (201, first.get_json())
    assert again.headers["Idempotent-Replayed"] == "true"
    assert listed(client)["feedback"] == [first.get_json()]
    for another in (address, f"{PATH}/{predict(client)}/feedback"):
        response = client.post(another, json={"correct": False}, headers=key)
        check_problem(response, 422, "idempotency-key-reused")


@pytest.mark.usefixtures("worker")
def test_feedback_that_cannot_be_is_a_problem(client: FlaskClient, worker: FakeWorker) -> None:
    address = f"{PATH}/{predict(client)}/feedback"
    bodies: list[Any] = [
        {},
        {"correct": "perhaps"},
        {"correct": True, "image": 1},
        {"correct": True, "label": ""},
        {"correct": True, "none": True},
        {"correct": False, "none": True, "label": "cat"},
        {"correct": False, "label": " \n"},
        [],
        "x",
    ]
    for body in bodies:
        check_problem(client.post(address, json=body), 400, "bad-parameter")
    check_problem(client.post(f"{PATH}/none/feedback", json={"correct": True}), 404, "no-such-prediction")

    worker.outcome = JobFailure.of(InferenceFailed())
    files = form(("1.png", png(1)), ("9.png", png(9)))
    mixed = client.post(PATH, data=files).get_json()["id"]
    failed = client.post(f"{PATH}/{mixed}/feedback", json={"correct": True, "image": 1})
    check_problem(failed, 409, "prediction-failed")

    worker.outcome = None
    pending = client.post(f"{PATH}/{predict(client, 10, **LATER)}/feedback", json={"correct": True})
    check_problem(pending, 409, "prediction-pending")


@pytest.mark.usefixtures("worker")
def test_feedback_is_listed_page_by_page(client: FlaskClient) -> None:
    assert listed(client) == {"feedback": [], "next": None}
    prediction_id = predict(client)
    given = [give(client, prediction_id, correct=True, comment=str(number)) for number in range(5)]
    found, query = [], {"limit": 2}
    for _ in range(3):
        page = listed(client, **query)
        found += page["feedback"]
        query["cursor"] = page["next"]
    assert (found, page["next"]) == (given, None)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("query", "comments"),
    [
        ({"correct": "true"}, ["right"]),
        ({"correct": "false"}, ["cat", "dog"]),
        ({"label": "cat"}, ["cat"]),
        ({"label": "cat", "correct": "true"}, []),
        ({"predicted_label": "Eskimo_dog", "model": "pets", "version": "7"}, ["right", "cat", "dog"]),
        ({"version": "8"}, []),
        ({"cursor": "7"}, ["cat", "dog"]),  # within the first record
        ({"cursor": "1000000"}, []),
        ({"cursor": str(2**62)}, []),
    ],
)
def test_feedback_is_filtered(client: FlaskClient, query: dict[str, str], comments: list[str]) -> None:
    prediction_id = predict(client)
    give(client, prediction_id, correct=True, comment="right")
    give(client, prediction_id, correct=False, comment="cat", label="cat")
    give(client, prediction_id, correct=False, comment="dog", label="dog")
    assert [record["comment"] for record in listed(client, **query)["feedback"]] == comments


@pytest.mark.usefixtures("worker")
def test_a_cursor_within_a_record_leads_to_the_next_one(client: FlaskClient, tmp_path: Path) -> None:
    file = tmp_path / "feedback" / "feedback.jsonl"
    given = give(client, predict(client), correct=False, comment="[" * 2000)
    for cursor in (1, file.stat().st_size - 1000):
        assert listed(client, cursor=cursor)["feedback"] == []
    with file.open("ab") as opened:
        opened.write(b"[" * 200_000 + b"\n")
    last = give(client, given["prediction"], correct=True)
    assert listed(client)["feedback"] == [given, last]


@pytest.mark.parametrize(
    ("address", "headers"),
    [
        ("192.0.2.1", {}),
        ("::ffff:192.0.2.1", {}),
        ("127.0.0.1", {"X-Forwarded-For": "192.0.2.1"}),
        ("127.0.0.1", {"Forwarded": "for=192.0.2.1"}),
        ("127.0.0.1", {"Via": "1.1 proxy"}),
        ("127.0.0.1", {"X-Forwarded-Proto": "https"}),
    ],
)
def test_without_keys_other_machines_may_not_read_feedback(
    client: FlaskClient, address: str, headers: dict[str, str]
) -> None:
    response = client.get("/v1/feedback", headers=headers, environ_base={"REMOTE_ADDR": address})
    check_problem(response, 403, "operators-only")


@pytest.mark.parametrize("path", ["/v1/feedback", "/status", "/metrics"])
def test_without_keys_nobody_is_an_operator_where_proxies_are_expected(make_app: MakeApp, path: str) -> None:
    assert make_app(trusted_proxies=1).test_client().get(path).status_code == 403


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_without_keys_this_machine_may_read_feedback(client: FlaskClient, address: str) -> None:
    assert client.get("/v1/feedback", environ_base={"REMOTE_ADDR": address}).status_code == 200


@pytest.mark.usefixtures("worker")
def test_with_keys_a_key_is_needed_and_feedback_tells_whose_it_was(make_app: MakeApp, tmp_path: Path) -> None:
    key = KeyFile(tmp_path / "keys").add("alice")
    client = make_app(api_keys_file=tmp_path / "keys").test_client()
    for path in ("/v1/feedback", "/v1/models", "/v1/openapi.json", "/v1/nothing", "/v1/problems/no-file"):
        check_problem(client.get(path, environ_base={"REMOTE_ADDR": "127.0.0.1"}), 401, "key-required")
    client.environ_base |= {"HTTP_AUTHORIZATION": f"Bearer {key}", "REMOTE_ADDR": "192.0.2.1"}
    assert give(client, predict(client), correct=True)["key"] == "alice"
    assert [record["key"] for record in listed(client)["feedback"]] == ["alice"]


def test_the_header_server_timing_says_where_the_time_of_a_prediction_went(
    client: FlaskClient, worker: FakeWorker
) -> None:
    timed = re.compile(r'queue;dur=1\.0, decode;dur=2\.0, inference;dur=9\.0, batch;desc="4", total;dur=\d+\.\d')
    worker.outcome = replace(DOG, timings=Timings(queue_ms=1, decode_ms=2, inference_ms=9, batch_size=4))
    again = {"Idempotency-Key": "again"}
    answers = [client.post(PATH, data=png(1), content_type="image/png", headers=again) for _ in range(2)]
    assert timed.fullmatch(answers[0].headers["Server-Timing"])
    cached = client.post(PATH, data=png(1), content_type="image/png")
    assert cached.headers["Server-Timing"].startswith("cache, total;dur=")
    later = client.post(PATH, data=png(2), content_type="image/png", headers={"Prefer": "respond-async"})
    for response in (
        answers[1],
        later,
        client.get(later.headers["Location"]),
    ):  # their timings are those of another request
        assert re.fullmatch(r"total;dur=\d+\.\d", response.headers["Server-Timing"])
    assert "Server-Timing" not in client.get("/v1/models").headers


def test_the_openapi_document_is_where_tools_look_for_it_and_is_sent_once(client: FlaskClient) -> None:
    first, second = client.get("/v1/openapi.json"), client.get("/openapi.json")
    assert (second.status_code, second.mimetype, second.get_json()) == (200, "application/json", first.get_json())
    assert client.get("/openapi.json", headers={"If-None-Match": first.headers["ETag"]}).status_code == 304


@pytest.mark.parametrize("code", sorted(error_types()))
def test_each_kind_of_problem_is_explained_at_its_address(client: FlaskClient, code: str) -> None:
    response = client.get(f"/v1/problems/{code}")
    documents.Problem.model_validate(response.get_json(), extra="forbid")
    assert response.get_json()["type"] == f"/v1/problems/{code}"


def test_an_unknown_problem_is_one(client: FlaskClient) -> None:
    check_problem(client.get("/v1/problems/nothing"), 404, "no-such-problem")


def test_the_documentation_is_a_page_that_takes_nothing_from_elsewhere(client: FlaskClient) -> None:
    page = client.get("/docs").get_data(as_text=True)
    assert 'data-document="/v1/openapi.json"' in page
    assert "://" not in page
