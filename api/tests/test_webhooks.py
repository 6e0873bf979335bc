"""Posting predictions to webhooks."""

import base64
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import BadStatusLine, HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import count
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.settings import ApiSettings
from api.tests.conftest import DOG, MakeApp
from api.tests.test_predictions import LATER, PATH, check_problem, form, png
from api.webhooks import webhooks
from api.webhooks.sender import NotSent, Sender
from api.webhooks.webhooks import Webhooks, announce
from jobs.queue.memory import MemoryJobQueue
from jobs.results import MemoryResults, Result
from jobs.settings import SettingsError
from runtime.errors import SetupError

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


class Receiver:
    """A server that records what is posted to it, and responds with the next of its statuses, or 204."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 204)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?customer=7"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture
def results() -> MemoryResults:
    return MemoryResults()


@pytest.fixture
def sender(results: MemoryResults) -> Webhooks:
    return Webhooks(results, Sender(SECRET, allow_private=True), lambda result_id, _: {"id": result_id})


def keep(results: MemoryResults, receiver: Receiver, **outcomes: Any) -> None:
    results.keep("r1", Result({"webhook": receiver.url}, ("j1",), outcomes), 60)
    announce(results, "r1")


def test_a_secret_that_is_too_short_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", "too short")
    with pytest.raises(SettingsError, match=r"WEBHOOK_SECRET=\.\.\.: ") as refused:
        ApiSettings.from_env()
    assert "too short" not in str(refused.value)


def test_a_prediction_that_is_done_is_posted_once_and_signed(
    results: MemoryResults, sender: Webhooks, receiver: Receiver
) -> None:
    keep(results, receiver, j1=DOG)
    assert [sender.step(), sender.step()] == [True, False]
    [(path, headers, body)] = receiver.received
    assert (path, json.loads(body), headers["content-type"]) == (
        "/hook?customer=7",
        {"id": "r1"},
        "application/json",
    )
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(bytes(range(32)), signed, hashlib.sha256).digest()).decode()
    assert (headers["webhook-id"], headers["webhook-signature"]) == ("r1", f"v1,{expected}")


def test_nothing_is_posted_before_the_prediction_is_done(
    results: MemoryResults, sender: Webhooks, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_LOOK_EVERY_S", 0)
    keep(results, receiver)
    assert sender.step()
    assert receiver.received == []
    results.add("r1", "j1", DOG)
    assert sender.step()
    assert len(receiver.received) == 1


@pytest.mark.parametrize("status", [500, 404, 302])
def test_what_is_not_received_is_sent_again_and_given_up_in_the_end(
    results: MemoryResults, sender: Webhooks, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(webhooks, "_PAUSES_S", (0, 0))
    keep(results, receiver, j1=DOG)
    receiver.statuses = 10 * [status]
    while sender.step():
        pass
    assert len(receiver.received) == 3
    assert {path for path, _, _ in receiver.received} == {"/hook?customer=7"}


def test_a_pause_is_kept_between_attempts(results: MemoryResults, sender: Webhooks, receiver: Receiver) -> None:
    keep(results, receiver, j1=DOG)
    receiver.statuses = [503]
    assert [sender.step(), sender.step()] == [True, False]


def test_a_result_that_is_gone_is_not_posted(results: MemoryResults, sender: Webhooks, receiver: Receiver) -> None:
    keep(results, receiver, j1=DOG)
    results.drop("r1")
    assert [sender.step(), sender.step()] == [True, False]
    assert receiver.received == []


@pytest.mark.parametrize("reminder", ["", "webhook", "webhook:r1", "webhook:r1:soon", "webhook:r1:0:1", "other:r1:0"])
def test_a_reminder_that_cannot_be_read_is_dropped(
    results: MemoryResults, sender: Webhooks, receiver: Receiver, reminder: str
) -> None:
    results.keep("r1", Result({"webhook": receiver.url}, ("j1",), {"j1": DOG}), 60)
    results.remind(reminder, 0)
    assert [sender.step(), sender.step()] == [True, False]
    assert receiver.received == []


def test_a_prediction_that_was_kept_in_another_form_is_not_posted(results: MemoryResults, sender: Webhooks) -> None:
    results.keep("r1", Result({"to": "elsewhere"}, ("j1",), {"j1": DOG}), 60)
    announce(results, "r1")
    assert [sender.step(), sender.step()] == [True, False]


def test_of_what_a_receiver_says_a_little_is_told(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(_: HTTPConnection) -> None:
        raise BadStatusLine("x" * 65_536)

    monkeypatch.setattr(HTTPConnection, "getresponse", answer)
    with pytest.raises(NotSent, match=r"^BadStatusLine: x{185}$"):
        Sender(SECRET, allow_private=True).post(receiver.url, "r1", {})


def _dribble(connected: socket.socket, gone: threading.Event) -> None:
    while not gone.wait(0.005):
        connected.sendall(b"x")


def _dribble_headers(connected: socket.socket, gone: threading.Event) -> None:
    connected.sendall(b"HTTP/1.1 204 No Content\r\n")
    while not gone.wait(0.005):
        connected.sendall(b"X: y\r\n")


def _say_nothing(_: socket.socket, gone: threading.Event) -> None:
    gone.wait()


@contextmanager
def _receiver(answer: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    """Yield the port of a server that answers its first connection with this, until it is closed."""
    gone = threading.Event()

    def serve(listening: socket.socket) -> None:
        with suppress(OSError), listening.accept()[0] as connected:
            answer(connected, gone)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=[listening])
        thread.start()
        yield listening.getsockname()[1]
        gone.set()
        thread.join()


@pytest.mark.parametrize(
    ("scheme", "answer"),
    [
        ("http", _dribble),
        ("http", _dribble_headers),
        ("http", _say_nothing),
        ("https", _dribble),
        ("https", _say_nothing),
    ],
)
def test_a_receiver_that_is_slow_is_not_waited_for(
    scheme: str, answer: Callable[[socket.socket, threading.Event], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.webhooks.sender._TIMEOUT_S", 0.1)
    with _receiver(answer) as port, pytest.raises(NotSent):
        Sender(SECRET, allow_private=True).post(f"{scheme}://127.0.0.1:{port}/", "r1", {})


def test_name_connection_and_answer_share_one_deadline(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count(0, 4)
    monkeypatch.setattr("api.webhooks.sender.time.monotonic", lambda: next(clock))
    given = list[float | None]()
    connect = socket.create_connection

    def connected(address: tuple[str, int], timeout: float) -> socket.socket:
        given.append(timeout)
        return connect(address, 10)

    monkeypatch.setattr(socket, "create_connection", connected)
    with pytest.raises(NotSent, match="no answer within 10 s"):
        Sender(SECRET, allow_private=True).post(receiver.url, "r1", {})
    assert given == [2]


def test_a_name_that_is_slow_to_look_up_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: gone.wait() and [])
    monkeypatch.setattr("api.webhooks.sender._TIMEOUT_S", 0.1)
    with pytest.raises(NotSent, match=r"no answer within 0\.1 s"):
        Sender(SECRET, allow_private=True).post("http://slow.example/", "r1", {})
    gone.set()


def test_what_was_checked_is_connected_to_whatever_the_name_leads_to_next(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter(["1.1.1.1", "127.0.0.1"])
    connected = list[tuple[str, int]]()

    def connect(address: tuple[str, int], _: float) -> socket.socket:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (next(found), 80))])
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(NotSent):
        Sender(SECRET, allow_private=False).post("http://rebinding.example/", "r1", {})
    assert connected == [("1.1.1.1", 80)]


def test_a_name_with_one_address_that_is_not_on_the_internet_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [(0, 0, 0, "", (address, 80)) for address in ("1.1.1.1", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(socket, "create_connection", lambda *_: pytest.fail("it connected"))
    with pytest.raises(NotSent, match=r"is 10\.0\.0\.1, which is not on the Internet"):
        Sender(SECRET, allow_private=False).post("http://both.example/", "r1", {})


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost/",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://[::10.0.0.1]/",
        "http://[::ffff:0:10.0.0.1]/",
        "http://[64:ff9b:1::10.0.0.1]/",
        "http://[2002:a00:1::]/",
        "http://192.0.0.192/",
        "http://169.254.169.254/latest/meta-data",
        "http://2130706433/",
        "http://0/",
        "https://192.168.1.1:8443/",
        "http://host.invalid/",
        "http://1.2.3.4:99999/",
    ],
)
def test_nothing_is_sent_to_where_it_could_do_harm(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_: pytest.fail("it connected"))
    with pytest.raises(NotSent):
        Sender(SECRET, allow_private=False).post(url, "r1", {})


def test_a_secret_that_is_no_base64_ends_the_start() -> None:
    with pytest.raises(SetupError, match="WEBHOOK_SECRET"):
        Sender("whsec_not base64 at all, is it?", allow_private=False)


@pytest.mark.usefixtures("worker")
def test_a_webhook_is_asked_for_with_the_request(make_app: MakeApp, queue: MemoryJobQueue) -> None:
    client = make_app(webhook_secret=SECRET).test_client()
    address = "https://example.org/hook"
    response = client.post(PATH, data=form(("1.png", png(1)), webhook=address), headers=LATER)
    assert response.status_code == 202
    reminder = queue.results.due(60)
    assert reminder == f"webhook:{response.get_json()['id']}:0"


def test_a_webhook_that_cannot_be_is_a_problem(make_app: MakeApp, client: FlaskClient) -> None:
    address = "https://example.org/hook"
    check_problem(client.post(PATH, data=form(("1.png", png(1)), webhook=address), headers=LATER), 400, "webhooks-off")
    client = make_app(webhook_secret=SECRET).test_client()
    check_problem(client.post(PATH, data=form(("1.png", png(1)), webhook=address)), 400, "bad-parameter")
    for url in ("ftp://example.org", "example.org", "https://", "https://user:password@example.org/", "file:///etc/x"):
        response = client.post(PATH, data=form(("1.png", png(1)), webhook=url), headers=LATER)
        check_problem(response, 400, "bad-parameter")
