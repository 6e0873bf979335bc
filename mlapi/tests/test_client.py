"""The client, against a server with responses set by the test."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlapi
from api.settings import ApiSettings
from api.v1.documents import MAX_IMAGES
from jobs.schema import ClassScore, Timings
from mlapi import Client, Model, Prediction
from mlapi import client as client_module
from mlapi.client import Outcome, Unreachable, WrongAddress
from mlapi.service.redis_server import free_port
from runtime.errors import (
    BadParameter,
    DeadlinePassed,
    KeyRequired,
    NoSuchPrediction,
    NotAnImage,
    QueueFull,
    ServiceError,
    TooManyBytes,
    TooManyRequests,
    Unavailable,
)
from testing.fake_service import (
    DOG,
    ID,
    Answer,
    Server,
    dogs,
    failed,
    image_count,
    predictions,
    problem,
)

FULL = problem("queue-full", 429, "Too many images are waiting.", **{"Retry-After": "1"})
BAD = problem("not-an-image", 400, "It is damaged.")


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, timeout_s=10) as client:
        yield client


def codes(outcomes: list[Outcome]) -> list[str]:
    """Return the label of each prediction, and the code of each error."""
    return [outcome.label if isinstance(outcome, Prediction) else outcome.code for outcome in outcomes]


def test_a_path_and_bytes_are_both_an_image(client: Client, server: Server, tmp_path: Path, dog: bytes) -> None:
    (tmp_path / "photo").write_bytes(dog)
    prediction = client.predict(dog)
    assert client.predict(tmp_path / "photo") == client.predict(str(tmp_path / "photo")) == prediction
    assert all(path == "/v1/predictions?top_k=5" for _, path, _, _ in server.requests)
    assert all((headers["Content-Type"], body) == ("image/jpeg", dog) for _, _, headers, body in server.requests)


def test_all_is_told_that_the_service_says(client: Client) -> None:
    top = (ClassScore("Eskimo_dog", 248, 0.6404), ClassScore("Siberian_husky", 250, 0.3071))
    assert client.predict(b"an image") == Prediction(
        "Eskimo_dog", 248, 0.6404, top, "efficientnet-lite0", "1", ID, 0, Timings(0.41, 4.12, 9.87, 1)
    )


def test_a_cached_prediction_has_no_timings(client: Client, server: Server) -> None:
    server.answers = [predictions({**DOG, "timings": None})]
    assert client.predict(b"an image", top_k=2).timings is None
    assert server.requests[0][1] == "/v1/predictions?top_k=2"


def test_a_model_or_a_version_of_it_can_be_named(client: Client, server: Server) -> None:
    client.predict(b"an image", model="pets@2")
    client.predict_many([b"an image", b"another"], model="cars & more")
    assert [path.partition("&")[2] for _, path, _, _ in server.requests] == ["model=pets%402", "model=cars+%26+more"]


def test_connections_are_kept(client: Client, server: Server) -> None:
    for _ in range(3):
        client.predict(b"an image")
    assert {headers.get("Connection", "keep-alive") for _, _, headers, _ in server.requests} == {"keep-alive"}


def test_a_key_is_sent_as_bearer_token(server: Server) -> None:
    with Client(server.url, key="mlapi_secret") as client:
        client.predict(b"an image")
    assert server.requests[0][2]["Authorization"] == "Bearer mlapi_secret"


@pytest.mark.parametrize(("background", "priority"), [(True, "u=5"), (False, None)])
def test_what_nobody_waits_for_is_less_urgent(server: Server, background: bool, priority: str | None) -> None:
    with Client(server.url, background=background) as client:
        client.predict(b"an image")
    assert server.requests[0][2].get("Priority") == priority


@pytest.mark.parametrize(("keep", "caching"), [(True, None), (False, "no-store")])
def test_predictions_are_not_kept_that_nobody_will_ask_for(server: Server, keep: bool, caching: str | None) -> None:
    with Client(server.url, keep=keep) as client:
        client.predict(b"an image")
    assert server.requests[0][2].get("Cache-Control") == caching


def test_many_images_are_one_request_and_a_bad_one_fails_alone(client: Client, server: Server) -> None:
    server.answers = [predictions(DOG, failed("not-an-image", 400, "It is damaged."), DOG)]
    first, second, third = client.predict_many([b"one", b"two", b"three"])
    assert isinstance(first, Prediction)
    assert isinstance(second, NotAnImage)
    assert str(second) == "It is damaged."
    assert isinstance(third, Prediction)
    assert third.image == 2
    [(_, _, _, body)] = server.requests
    assert all(data in body for data in (b"one", b"two", b"three"))


def test_no_image_is_no_request(client: Client, server: Server) -> None:
    assert client.predict_many([]) == []
    assert server.requests == []


def test_more_images_than_a_request_may_have_are_several(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(client.predict_many([b"an image"] * 40)) == 40
    assert [image_count(body) for *_, body in server.requests] == [16, 16, 8]
    monkeypatch.setattr(client_module, "MOST_BYTES", 10)
    assert len(client.predict_many([b"1234", b"1234", b"1234", b"more than ten"])) == 4
    assert [image_count(body) for *_, body in server.requests[3:]] == [2, 1, 1]


def test_a_request_keeps_to_the_limits_of_the_service() -> None:
    assert client_module.MOST_IMAGES == MAX_IMAGES
    assert ApiSettings.model_fields["max_request_bytes"].default > client_module.MOST_BYTES + 100_000


def test_images_that_are_refused_for_now_are_sent_again_and_no_others(client: Client, server: Server) -> None:
    full, bad = failed("queue-full", 429, "Too many wait."), failed("not-an-image", 400, "It is damaged.")
    server.answers = [predictions(DOG, full, bad, full, **{"Retry-After": "1"}), FULL, predictions(full, DOG), dogs]
    assert codes(client.predict_many([b"one", b"two", b"three", b"four"])) == [
        "Eskimo_dog",
        "Eskimo_dog",
        "not-an-image",
        "Eskimo_dog",
    ]
    (first, *_), (second, *_, rest), _, (*_, last) = server.requests
    assert second - first >= 1
    assert [data in rest for data in (b"one", b"two", b"three", b"four")] == [False, True, False, True]
    assert last == b"two"


def test_images_that_are_refused_until_the_time_is_over_have_that_error(server: Server) -> None:
    server.answers = [predictions(DOG, failed("no-worker", 503, "None is alive.")), (503, {}, b"")]
    with Client(server.url, timeout_s=0.3) as client:
        assert codes(client.predict_many([b"one", b"two"])) == ["Eskimo_dog", "no-worker"]


def too_many_bytes(body: bytes) -> Answer:
    """Respond like a proxy that accepts up to 500 bytes."""
    return (413, {}, b"<html>") if len(body) > 500 else dogs(body)


def test_what_is_too_much_for_one_request_is_sent_in_halves(client: Client, server: Server) -> None:
    server.answers = [too_many_bytes]
    outcomes = client.predict_many([b"1" * 50, b"2" * 600, b"3" * 50, b"4" * 50])
    assert codes(outcomes) == ["Eskimo_dog", "too-large", "Eskimo_dog", "Eskimo_dog"]


@pytest.mark.parametrize("code", ["not-an-image", "too-many-pixels", "set-aside", "internal-error"])
def test_where_all_images_fail_alike_each_has_the_error(client: Client, server: Server, code: str) -> None:
    server.answers = [problem(code, 500, "No.")]
    assert codes(client.predict_many([b"one", b"two"])) == [code, code]


@pytest.mark.parametrize(("code", "error"), [("key-required", KeyRequired), ("bad-parameter", BadParameter)])
def test_what_holds_for_all_images_is_raised(
    client: Client, server: Server, code: str, error: type[ServiceError]
) -> None:
    server.answers = [problem(code, error.status, "No.")]
    with pytest.raises(error):
        client.predict_many([b"one", b"two"])
    assert len(server.requests) == 1


def test_who_is_asked_to_come_back_comes_back_then(client: Client, server: Server) -> None:
    server.answers = [FULL, dogs]
    assert client.predict(b"an image").label == "Eskimo_dog"
    (first, *_), (second, *_) = server.requests
    assert second - first >= 1


def test_what_comes_too_late_is_not_waited_for(server: Server) -> None:
    server.answers = [problem("queue-full", 429, "Too many wait.", **{"Retry-After": "3600"})]
    with Client(server.url, timeout_s=30) as client, pytest.raises(QueueFull, match="Too many") as raised:
        client.predict(b"an image")
    assert raised.value.retry_after_s == 3600
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [502, 503, 504])
def test_what_is_away_for_a_moment_is_asked_again(client: Client, server: Server, status: int) -> None:
    server.answers = [(status, {}, b"<html>"), (status, {"Retry-After": "no number"}, b""), dogs]
    assert client.predict(b"an image").label == "Eskimo_dog"


def test_a_connection_that_breaks_is_made_again(client: Client, server: Server) -> None:
    server.answers = [None, dogs]
    assert client.predict(b"an image").label == "Eskimo_dog"


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (BAD, NotAnImage, "It is damaged."),
        (problem("key-required", 401, "A key is needed."), KeyRequired, "A key is needed."),
        (problem("too-many-bytes", 413, "At most 10."), TooManyBytes, "At most 10."),
        (problem("of-a-newer-service", 400, "No."), ServiceError, "No."),
        ((404, {}, b"<html>"), WrongAddress, "right address"),
        ((404, {}, b"[]"), WrongAddress, "right address"),
        ((302, {"Location": "/login"}, b""), WrongAddress, "right address"),
        ((200, {}, b"<html>"), WrongAddress, "right address"),
        ((200, {}, b"[1]"), WrongAddress, "right address"),
        ((200, {}, b'{"score": "high"}'), WrongAddress, "right address"),
        (predictions(), WrongAddress, "right address"),
        (predictions({**DOG, "predictions": []}), WrongAddress, "right address"),
        (predictions({**DOG, "timings": {"age": 7}}), WrongAddress, "right address"),
    ],
)
def test_what_is_refused_for_good_is_asked_once(
    client: Client, server: Server, answer: Answer, error: type[ServiceError], message: str
) -> None:
    server.answers = [answer]
    with pytest.raises(error, match=message):
        client.predict(b"an image")
    assert len(server.requests) == 1


def test_the_code_of_a_newer_service_is_taken_by_its_status(server: Server) -> None:
    server.answers = [problem("too-often", 429, "Slower.", **{"Retry-After": "60"})]
    with Client(server.url, timeout_s=1) as client, pytest.raises(TooManyRequests, match="Slower"):
        client.predict(b"an image")


def test_when_the_time_is_over_the_last_refusal_is_raised(server: Server) -> None:
    server.answers = [problem("no-worker", 503, "None is alive.")]
    with Client(server.url, timeout_s=0.5) as client, pytest.raises(Unavailable, match="None is alive"):
        client.predict(b"an image")
    assert len(server.requests) > 1


def test_nobody_there_is_said_with_the_address() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url, timeout_s=0.2) as client, pytest.raises(Unreachable, match=url):
        client.predict(b"an image")


@pytest.mark.parametrize("url", ["http://", "nonsense", "ftp://127.0.0.1"])
def test_an_address_that_is_none_is_said(url: str) -> None:
    with pytest.raises(WrongAddress, match=f"{url}: an address is like"):
        Client(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://a b",
        "http://\x1b[31mevil",
        "http://[::1",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:port",
        "http://:secret@127.0.0.1",
        "http://user:secret@127.0.0.1:5000",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_a_password(url: str) -> None:
    with pytest.raises(WrongAddress) as refused:
        Client(url)
    assert "secret" not in str(refused.value)


def test_an_answer_that_does_not_come_is_a_deadline(server: Server) -> None:
    never = threading.Event()

    def wait(_: bytes) -> None:
        never.wait(10)

    server.answers = [wait]
    with Client(server.url, timeout_s=0.2) as client, pytest.raises(DeadlinePassed, match="in time"):
        client.predict(b"an image")
    never.set()


KEPT: Answer = (201, {}, b'{"correct": false}')


def given(server: Server) -> list[tuple[str, object]]:
    """Return the URL and the content of each feedback, each under another key."""
    told = [(path, headers, body) for _, path, headers, body in server.requests if path.endswith("/feedback")]
    assert len({headers["Idempotency-Key"] for _, headers, _ in told}) == len(told)
    return [(path, json.loads(body)) for path, _, body in told]


def test_feedback_names_the_prediction_and_its_image(client: Client, server: Server) -> None:
    _, prediction = client.predict_many([b"one", b"two"])
    assert isinstance(prediction, Prediction)
    server.answers = [KEPT]
    client.feedback(prediction, label="malamute", comment="with snow")
    client.feedback(prediction, right=True)
    client.feedback(prediction, none=True)
    path = f"/v1/predictions/{ID}/feedback"
    assert given(server) == [
        (path, {"correct": False, "label": "malamute", "comment": "with snow", "image": 1}),
        (path, {"correct": True, "label": None, "comment": None, "image": 1}),
        (path, {"correct": False, "label": None, "comment": None, "image": 1, "none": True}),
    ]


def test_feedback_whose_answer_was_lost_is_sent_again_with_the_same_key(client: Client, server: Server) -> None:
    prediction = client.predict(b"an image")
    in_use = problem("idempotency-key-in-use", 409, "It is being answered.")
    server.answers = [None, FULL, in_use, KEPT]
    client.feedback(prediction)
    assert len({headers["Idempotency-Key"] for _, _, headers, _ in server.requests[1:]}) == 1
    assert len(server.requests) == 1 + 4


def test_feedback_on_what_is_not_kept_any_more_is_refused(client: Client, server: Server) -> None:
    prediction = client.predict(b"an image")
    server.answers = [problem("no-such-prediction", 404, "There is none.")]
    with pytest.raises(NoSuchPrediction, match="There is none"):
        client.feedback(prediction)


def test_the_models_are_told(client: Client, server: Server) -> None:
    pets = {"name": "pets", "version": "7", "precision": "f32", "classes": 37}
    server.answers = [(200, {}, json.dumps({"models": [pets]}).encode())]
    assert client.models() == [Model("pets", "7", "f32", 37)]
    assert server.requests[0][1] == "/v1/models"


def test_the_package_has_the_client_and_nothing_of_another_name() -> None:
    assert mlapi.Client is Client
    with pytest.raises(AttributeError, match="Servant"):
        _ = mlapi.Servant
