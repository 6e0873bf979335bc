"""The client, against a server that answers as the test says."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlapi
from api.utils import get_file_hash
from jobs.errors import DeadlinePassed, KeyRequired, NotAnImage, QueueFull, ServiceError, Unavailable
from mlapi import Client
from mlapi.client import ConnectionLost, Unreachable, WrongAddress
from mlapi.redis_server import free_port
from mlapi.tests.fake_service import DOG, Answer, Server

FULL: Answer = (429, {"X-Error": "queue-full: Too many images are waiting.", "Retry-After": "1"}, b"{}")


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, timeout_s=10) as client:
        yield client


def test_a_path_and_bytes_are_both_an_image(client: Client, server: Server, tmp_path: Path, dog: bytes) -> None:
    (tmp_path / "photo").write_bytes(dog)
    prediction = client.predict(dog)
    assert (prediction.label, prediction.score) == ("Eskimo_dog", 0.6404)
    assert prediction.image_name == get_file_hash(dog) + ".jpg"
    assert client.predict(tmp_path / "photo") == client.predict(str(tmp_path / "photo")) == prediction
    assert all(dog in body and path == "/predict" for _, path, _, body in server.requests)


def test_connections_are_kept(client: Client, server: Server) -> None:
    for _ in range(3):
        client.predict(b"an image")
    assert {headers.get("Connection", "keep-alive") for _, _, headers, _ in server.requests} == {"keep-alive"}


def test_a_key_is_sent_as_bearer_token(server: Server) -> None:
    with Client(server.url, key="mlapi_secret") as client:
        client.predict(b"an image")
    assert server.requests[0][2]["Authorization"] == "Bearer mlapi_secret"


def test_who_is_asked_to_come_back_comes_back_then(client: Client, server: Server) -> None:
    server.answers = [FULL, DOG]
    assert client.predict(b"an image").label == "Eskimo_dog"
    (first, *_), (second, *_) = server.requests
    assert second - first >= 1


def test_what_comes_too_late_is_not_waited_for(server: Server) -> None:
    server.answers = [(429, {**FULL[1], "Retry-After": "3600"}, b"")]
    with Client(server.url, timeout_s=30) as client, pytest.raises(QueueFull, match="Too many") as raised:
        client.predict(b"an image")
    assert raised.value.retry_after_s == 3600
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [502, 503, 504])
def test_what_is_away_for_a_moment_is_asked_again(client: Client, server: Server, status: int) -> None:
    server.answers = [(status, {}, b"<html>"), (status, {"Retry-After": "no number"}, b""), DOG]
    assert client.predict(b"an image").label == "Eskimo_dog"


def test_a_connection_that_breaks_is_made_again(client: Client, server: Server) -> None:
    server.answers = [None, DOG]
    assert client.predict(b"an image").label == "Eskimo_dog"


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ((400, {"X-Error": "not-an-image: It is damaged."}, b"{}"), NotAnImage, "It is damaged."),
        ((401, {"X-Error": "key-required: A key is needed."}, b"{}"), KeyRequired, "A key is needed."),
        ((400, {"X-Error": "of-a-newer-service: No."}, b"{}"), ServiceError, "No."),
        ((404, {}, b"<html>"), WrongAddress, "right address"),
        ((302, {"Location": "/login"}, b""), WrongAddress, "right address"),
        ((200, {}, b"<html>"), WrongAddress, "right address"),
        ((200, {}, b"[1]"), WrongAddress, "right address"),
        ((200, {}, b'{"score": "high"}'), WrongAddress, "right address"),
    ],
)
def test_what_is_refused_for_good_is_asked_once(
    client: Client, server: Server, answer: Answer, error: type[ServiceError], message: str
) -> None:
    server.answers = [answer]
    with pytest.raises(error, match=message):
        client.predict(b"an image")
    assert len(server.requests) == 1


def test_when_the_time_is_over_the_last_refusal_is_raised(server: Server) -> None:
    server.answers = [(503, {"X-Error": "no-worker: None is alive."}, b"")]
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


def test_an_answer_that_does_not_come_is_a_deadline(server: Server) -> None:
    never = threading.Event()

    class Waiting(list[Answer | None]):
        def pop(self, _: object = 0) -> Answer:
            never.wait(10)
            return DOG

    server.answers = Waiting([DOG, DOG])
    with Client(server.url, timeout_s=0.2) as client, pytest.raises(DeadlinePassed, match="in time"):
        client.predict(b"an image")
    never.set()


def test_a_report_names_the_image_and_the_right_label(client: Client, server: Server, dog: bytes) -> None:
    prediction = client.predict(dog)
    client.feedback(prediction, label="malamute")
    _, path, _, body = server.requests[-1]
    assert path == "/feedback"
    report = json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])
    assert report == {
        "filename": f"{get_file_hash(dog)}.jpg",
        "prediction": "Eskimo_dog",
        "score": 0.6404,
        "label": "malamute",
    }


def test_a_report_that_may_have_arrived_is_not_sent_again(client: Client, server: Server) -> None:
    prediction = client.predict(b"an image")
    server.answers = [FULL, (200, {}, b"<html>")]
    client.feedback(prediction)
    assert len(server.requests) == 3
    server.answers = [None]
    with pytest.raises(ConnectionLost):
        client.feedback(prediction)
    assert len(server.requests) == 4


def test_the_package_has_the_client_and_nothing_of_another_name() -> None:
    assert mlapi.Client is Client
    with pytest.raises(AttributeError, match="Servant"):
        _ = mlapi.Servant
