"""More requests than can be served, slow clients, clients that hang up, and a shutdown meanwhile."""

import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
import requests

from testing.images import DOG
from tests.conftest import EVENT_TIMEOUT_S, STOP_TIMEOUT_S, MakeService, Service, until

FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="dog.jpeg"\r\n\r\n' + DOG + b"\r\n--b--\r\n"
_HEAD = (
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b"Content-Length: %d\r\n\r\n"
)
HEAD = _HEAD % len(FORM)
HEAD_OF_MUCH = _HEAD % 10_000_000


@contextmanager
def connections(service: Service, count: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """Open connections, and send the same data on each of them."""
    with ExitStack() as stack:
        opened = [
            stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=60)) for _ in range(count)
        ]
        for connection in opened:
            connection.sendall(sent)
        yield opened


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST /predict HTT", HEAD[:-2], HEAD, HEAD + FORM[:1000], HEAD + FORM[:-1], HEAD_OF_MUCH + FORM],
    ids=["nothing", "half a line", "half the headers", "no body", "its beginning", "all but a byte", "little of much"],
)
def test_hundreds_of_slow_clients_keep_nobody_else_waiting(make_service: MakeService, sent: bytes) -> None:
    service = make_service(INSTANCES="1", API_THREADS="4").wait_until_ready()
    with connections(service, 400, sent):
        for _ in range(20):
            response = service.predict(DOG)
            assert (response.status_code, response.json()["prediction"]) == (200, "Eskimo_dog")


def test_a_slow_upload_is_ended_after_its_time(make_service: MakeService) -> None:
    service = make_service(INSTANCES="1", UPLOAD_TIMEOUT_S="0.5").wait_until_ready()
    with connections(service, 1, HEAD + FORM[:1000]) as [connection]:
        answer = connection.makefile("rb").read()  # until the server closes it
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"too-slow" in answer


def test_clients_that_do_not_read_their_pictures_take_no_memory_for_them(make_service: MakeService) -> None:
    service = make_service(INSTANCES="1").wait_until_ready()
    picture = os.urandom(10_000_000)
    uploads = service.folder / "uploads"
    uploads.mkdir(exist_ok=True)
    (uploads / f"{'0' * 64}.png").write_bytes(picture)
    before = service.memory_bytes("mlapi api")
    with connections(service, 40, b"GET /display/" + b"0" * 64 + b".png HTTP/1.1\r\nHost: localhost\r\n\r\n") as opened:
        for connection in opened:
            assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        assert service.memory_bytes("mlapi api") - before < 40 * len(picture) / 3
        assert service.predict(DOG).status_code == 200
    assert requests.get(f"{service.url}/display/{'0' * 64}.png", timeout=60).content == picture


def test_clients_that_do_not_read_hold_up_neither_the_end_of_the_service_nor_answers(make_service: MakeService) -> None:
    service = make_service(INSTANCES="1", STOP_TIMEOUT_S="3000").wait_until_ready()
    name = f"{'0' * 64}.png"
    uploads = service.folder / "uploads"
    uploads.mkdir(exist_ok=True)
    (uploads / name).write_bytes(os.urandom(10_000_000))
    picture, events = (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n" for path in (f"/display/{name}", "/status/events")
    )
    with (
        connections(service, 10, picture.encode()),
        connections(service, 10, events.encode()),
        ThreadPoolExecutor(1) as pool,
    ):
        service.pause_workers()
        waiting = pool.submit(service.predict, DOG)
        assert until(lambda: service.queued_jobs() == 1, EVENT_TIMEOUT_S)
        service.process.terminate()
        service.kill("mlapi worker", signal.SIGCONT)
        assert service.process.wait(STOP_TIMEOUT_S) == 0, service.log
        assert waiting.result().json()["prediction"] == "Eskimo_dog"
    assert service.processes() == []


def test_clients_that_hang_up_free_their_places(make_service: MakeService) -> None:
    service = make_service(INSTANCES="1", MAX_QUEUED_JOBS="8", CACHE_TTL_S="0").wait_until_ready()
    service.pause_workers()
    with connections(service, 8, HEAD + FORM):
        assert until(lambda: service.queued_jobs() == 8, EVENT_TIMEOUT_S)
        assert service.predict(DOG).status_code == 429
    assert until(lambda: service.queued_jobs() <= 1, EVENT_TIMEOUT_S)
    with service.redis() as connection:
        assert int(connection.get("{mlapi}:queued-bytes") or 0) <= len(DOG)
    service.kill("mlapi worker", signal.SIGCONT)
    assert until(lambda: service.predict(DOG).status_code == 200, EVENT_TIMEOUT_S)


def test_more_clients_than_may_wait_are_refused_and_the_others_answered(make_service: MakeService) -> None:
    service = make_service(INSTANCES="1", MAX_QUEUED_JOBS="16").wait_until_ready()
    with ThreadPoolExecutor(64) as pool:
        responses = list(pool.map(lambda _: service.predict(DOG), range(256)))
    statuses = {response.status_code for response in responses}
    assert statuses == {200, 429}
    for response in responses:
        if response.status_code == 429:
            assert response.json() == {"success": False, "prediction": None, "score": None}
            assert response.headers["X-Error"].startswith("queue-full")
            assert int(response.headers["Retry-After"]) >= 1
    assert service.queued_jobs() == 0


def test_who_could_not_be_answered_in_time_is_refused_at_once(make_service: MakeService) -> None:
    # Of a queue that takes a thousand jobs, some seconds' worth is taken from clients who wait a quarter of a second.
    service = make_service(INSTANCES="1", PREDICT_TIMEOUT_S="0.25").wait_until_ready()
    with ThreadPoolExecutor(128) as pool:
        statuses = [response.status_code for response in pool.map(lambda _: service.predict(DOG), range(512))]
    assert statuses.count(200) > 0
    assert statuses.count(429) > 0
    assert set(statuses) <= {200, 429, 504}


def test_before_it_stops_it_says_so_and_still_answers(make_service: MakeService) -> None:
    service = make_service(INSTANCES="1", DRAIN_S="100").wait_until_ready()
    api = min(service.processes("mlapi api"))  # the parent of the others
    os.kill(api, signal.SIGTERM)
    assert until(lambda: requests.get(f"{service.url}/readyz", timeout=60).status_code == 503, EVENT_TIMEOUT_S)
    response = service.predict(DOG)
    assert (response.status_code, response.headers["Connection"]) == (200, "close")
    assert requests.get(f"{service.url}/livez", timeout=60).status_code == 200
    os.kill(api, signal.SIGTERM)  # a second signal: do not wait
