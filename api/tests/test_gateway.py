"""Requests before they get a thread, and requests whose client does not wait."""

import asyncio
import gc
import gzip
import json
import threading
import time
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest

from api.access.keys import KeyFile
from api.http.connection import Connection
from api.server.gateway import Gateway
from api.settings import SPARE_THREADS
from api.tests.conftest import FakeWorker, MakeApp
from jobs.queue import backlog
from jobs.queue.interface import Delivery
from jobs.queue.memory import MemoryJobQueue
from jobs.results import Result
from jobs.schema import ImageJob
from jobs.storage.images import FolderImageStore
from runtime import waiting
from runtime.errors import QueueFull
from testing.rsgi_client import Answer, FakeHeaders, FakeProtocol, FakeScope

BOUNDARY = "b"
CHUNKED = ("transfer-encoding", "chunked")
T = TypeVar("T")
MakeGateway = Callable[..., Gateway]


@pytest.fixture
def make_gateway(make_app: MakeApp, queue: MemoryJobQueue) -> MakeGateway:
    """Create the API with some settings changed, to be called as Granian does."""

    def make(**changes: object) -> Gateway:
        app = make_app(**changes)
        return Gateway(app, app.extensions["services"].settings, queue)

    return make


def run(gateway: Gateway, steps: Callable[[], Awaitable[T]]) -> T:
    """Run the steps in the gateway's own event loop."""

    async def main() -> T:
        gateway.__rsgi_init__(asyncio.get_running_loop())
        return await asyncio.wait_for(steps(), 120)

    return asyncio.run(main())


def form(data: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="dog.jpeg"\r\n\r\n'
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def upload(length: int | None, path: str = "/predict", *headers: tuple[str, str]) -> FakeScope:
    """Return the head of a request with a form of this length, or of unknown length."""
    size = CHUNKED if length is None else ("content-length", str(length))
    content_type = ("content-type", f"multipart/form-data; boundary={BOUNDARY}")
    return FakeScope("POST", path, FakeHeaders(("host", "localhost"), content_type, size, *headers))


async def ask(gateway: Gateway, scope: FakeScope, *pieces: bytes) -> Answer:
    """Send a request and return its answer."""
    protocol = FakeProtocol(pieces)
    await gateway.__rsgi__(scope, protocol)
    assert protocol.answer
    return protocol.answer


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("told", [True, False])
def test_a_photo_is_classified_whether_or_not_its_length_is_told(
    make_gateway: MakeGateway, dog: bytes, told: bool
) -> None:
    gateway, body = make_gateway(), form(dog)
    answer = run(gateway, lambda: ask(gateway, upload(len(body) if told else None), body[:1000], body[1000:]))
    assert (answer.status, b'"Eskimo_dog"' in answer.body) == (200, True)


def test_hundreds_of_slow_uploads_keep_nobody_else_waiting(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(api_threads=1)

    async def steps() -> list[Answer]:
        slow = [asyncio.create_task(gateway.__rsgi__(upload(1000), FakeProtocol(slow=True))) for _ in range(500)]
        answers = [await ask(gateway, scope) for scope in (FakeScope(), FakeScope(path="/"), upload(0))]
        for request in slow:
            request.cancel()
        await asyncio.wait(slow)
        return answers

    assert [answer.status for answer in run(gateway, steps)] == [200, 200, 400]


@pytest.mark.parametrize("length", [1000, None])
def test_an_upload_that_takes_too_long_is_ended(make_gateway: MakeGateway, length: int | None) -> None:
    gateway = make_gateway(upload_timeout_s=0.05)

    async def steps() -> Answer | None:
        protocol = FakeProtocol([b"some"], slow=True)
        await gateway.__rsgi__(upload(length), protocol)
        return protocol.answer

    answer = run(gateway, steps)
    assert answer
    assert answer.status == 408
    assert answer.headers["X-Error"].startswith("too-slow")
    assert answer.headers["Connection"] == "close"


@pytest.mark.parametrize("path", ["/predict", "/v1/predictions", "/"])
def test_a_query_that_is_too_long_is_refused_before_the_body(
    make_gateway: MakeGateway, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("api.server.bodies._LINGER_S", 0.05)
    gateway, scope = make_gateway(), upload(1000, path)
    scope.query_string = "&".join(["a=1"] * 3000)

    async def steps() -> Answer | None:
        protocol = FakeProtocol(slow=True)
        await gateway.__rsgi__(scope, protocol)
        return protocol.answer

    answer = run(gateway, steps)
    assert answer
    assert (answer.status, answer.headers["Connection"]) == (414, "close")
    assert "8192" in answer.headers["X-Error"]


def test_a_client_that_ends_before_it_has_sent_all_may_read_why_it_is_refused(make_gateway: MakeGateway) -> None:
    gateway = make_gateway()

    async def steps() -> Answer | None:
        protocol = FakeProtocol(slow=True)
        request = asyncio.create_task(gateway.__rsgi__(upload(1000), protocol))
        protocol.hang_up()
        await request
        return protocol.answer

    answer = run(gateway, steps)
    assert answer
    assert answer.status == 400
    assert "bad-body" in answer.headers["X-Error"]


@pytest.mark.parametrize("length", [200_000, None])
def test_a_body_that_is_too_large_is_refused_without_a_thread(make_gateway: MakeGateway, length: int | None) -> None:
    gateway = make_gateway(max_upload_bytes=1000)
    answer = run(gateway, lambda: ask(gateway, upload(length), *[bytes(100_000)] * 2))
    assert answer.status == 413
    assert answer.headers["X-Error"].startswith("too-many-bytes")


def test_where_no_place_is_left_an_upload_is_refused_at_once_and_all_else_is_served(
    make_gateway: MakeGateway, queue: MemoryJobQueue, dog: bytes
) -> None:
    gateway, body = make_gateway(api_threads=1), form(dog)
    queue.heartbeat("hung", 0.01, "m1")

    async def steps() -> list[Answer]:
        waiting = asyncio.create_task(ask(gateway, upload(len(body)), body))
        await until(lambda: queue.take_batch("hung", 1, 0))
        scopes = [upload(len(body)), upload(len(body), "/"), FakeScope(path="/"), FakeScope()]
        answers = [await ask(gateway, scope, body if scope.method == "POST" else b"") for scope in scopes]
        queue.close()
        await waiting
        answers.append(await ask(gateway, upload(0)))
        return answers

    predict, page, *others, later = run(gateway, steps)
    assert (predict.status, page.status) == (429, 429)
    assert predict.headers["X-Error"].startswith("queue-full")
    assert int(predict.headers["Retry-After"]) > 0
    assert b"Too many images" in page.body
    assert [answer.status for answer in others] == [200, 200]
    assert later.status == 400


def test_a_refusal_of_the_queue_stands_for_those_that_follow_and_asks_no_thread(
    make_gateway: MakeGateway, queue: MemoryJobQueue, dog: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "_STANDS_FOR_SHARE", 4)
    monkeypatch.setattr(backlog, "_STANDS_AT_MOST_S", 60)
    gateway, body = make_gateway(), form(dog)
    queue.heartbeat("busy", 5, "m1")
    for number in range(3):
        queue.submit(ImageJob.create(f"{number}.jpg", 100))

    async def steps() -> list[Answer]:
        first = await ask(gateway, upload(len(body)), body)
        monkeypatch.setattr(gateway, "_serve", None)
        return [first, await ask(gateway, upload(len(body)), body)]

    first, second = run(gateway, steps)
    assert (first.status, second.status) == (429, 429)
    for name in ("X-Error", "Retry-After", "Content-Type", "Content-Security-Policy"):
        assert second.headers[name] == first.headers[name]
    assert second.headers["Retry-After"] == "15"
    assert json.loads(second.body) == json.loads(first.body)


@pytest.mark.usefixtures("worker")
def test_an_image_is_taken_where_there_is_a_place_again_when_it_is_to_be_refused(
    make_gateway: MakeGateway, queue: MemoryJobQueue, dog: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, body = make_gateway(), form(dog)
    refusals = iter([QueueFull(retry_after_s=7)])
    monkeypatch.setattr(queue, "refusal", lambda _ahead=0: next(refusals, None))
    assert run(gateway, lambda: ask(gateway, upload(len(body)), body)).status == 200


def test_a_request_that_waits_for_its_turn_is_refused_when_the_queue_turns_out_to_be_full(
    make_gateway: MakeGateway, queue: MemoryJobQueue, dog: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.server.gateway._TURNS", 1)
    gateway, body = make_gateway(), form(dog)
    queue.heartbeat("busy", 5, "m1")
    stored, go_on = threading.Event(), threading.Event()

    @waiting.blocking
    def submit(_: ImageJob) -> None:
        stored.set()
        go_on.wait(10)
        monkeypatch.setattr(queue, "refusal", lambda _ahead=0: QueueFull(retry_after_s=7))
        raise QueueFull(retry_after_s=8)

    monkeypatch.setattr(queue, "submit", submit)

    async def steps() -> list[Answer]:
        requests = [asyncio.create_task(ask(gateway, upload(len(body)), body)) for _ in range(3)]
        await until(stored.is_set)
        go_on.set()
        return [await request for request in requests]

    answers = run(gateway, steps)
    assert [(answer.status, answer.headers["Retry-After"]) for answer in answers] == [
        (429, "8"),
        (429, "7"),
        (429, "7"),
    ]


def connections() -> list[Connection]:
    """Return the connections that Python's garbage collector knows."""
    return [each for each in gc.get_objects() if isinstance(each, Connection)]


def test_what_has_come_of_a_refused_request_is_freed_with_its_answer(
    make_gateway: MakeGateway, queue: MemoryJobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = make_gateway()
    monkeypatch.setattr(queue, "refusal", lambda _ahead=0: QueueFull(retry_after_s=7))
    gc.collect()
    gc.disable()
    before = connections()  # of other tests
    try:
        assert run(gateway, lambda: ask(gateway, upload(1000), bytes(1000))).status == 429
        assert len(connections()) <= len(before)
    finally:
        gc.enable()


def test_who_is_behind_more_than_there_is_room_for_is_refused_at_once(
    make_gateway: MakeGateway, queue: MemoryJobQueue, dog: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.server.gateway._TURNS", 1)
    gateway, body = make_gateway(), form(dog)
    stored, go_on = threading.Event(), threading.Event()

    @waiting.blocking
    def submit(_: ImageJob) -> None:
        stored.set()
        go_on.wait(10)
        raise QueueFull(retry_after_s=8)

    monkeypatch.setattr(queue, "submit", submit)
    monkeypatch.setattr(queue, "refusal", lambda ahead=0: QueueFull(retry_after_s=7) if ahead >= 2 else None)

    async def steps() -> list[Answer]:
        first, second = (asyncio.create_task(ask(gateway, upload(len(body)), body)) for _ in range(2))
        await until(stored.is_set)
        third = await ask(gateway, upload(len(body)), body)
        assert not first.done()
        go_on.set()
        return [await first, await second, third]

    answers = run(gateway, steps)
    assert [answer.headers["Retry-After"] for answer in answers] == ["8", "8", "7"]


def test_a_request_that_only_waits_lets_others_have_their_turn(
    make_gateway: MakeGateway, queue: MemoryJobQueue, dog: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.server.gateway._TURNS", 1)
    gateway = make_gateway()
    forms = [form(dog + bytes([number])) for number in range(3)]  # since a single image would be one job
    workers = ["first", "second", "third"]
    taken: list[Delivery] = []
    for worker in workers:
        queue.heartbeat(worker, 0.01, "m1")

    def all_taken() -> bool:
        taken.extend(queue.take_batch(workers[len(taken)], 1, 0))
        return len(taken) == 3

    async def steps() -> None:
        requests = [asyncio.create_task(ask(gateway, upload(len(body)), body)) for body in forms]
        await until(all_taken)
        queue.close()
        await asyncio.wait(requests)

    run(gateway, steps)
    assert len({delivery.job.id for delivery in taken}) == 3


def test_a_client_that_asks_before_it_sends_is_refused_before(
    make_gateway: MakeGateway, queue: MemoryJobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = make_gateway()
    monkeypatch.setattr(queue, "refusal", lambda _ahead=0: QueueFull(retry_after_s=7))

    async def steps() -> Answer | None:
        protocol = FakeProtocol(slow=True)
        await gateway.__rsgi__(upload(1000, "/predict", ("expect", "100-continue")), protocol)
        return protocol.answer

    answer = run(gateway, steps)
    assert answer
    assert (answer.status, answer.headers["Retry-After"]) == (429, "7")


@pytest.mark.parametrize("length", [100_001, 10**12])
@pytest.mark.parametrize("path", ["/predict", "/", "/feedback", "/v1/predictions"])
def test_a_client_that_asks_before_it_sends_too_much_is_refused_before(
    make_gateway: MakeGateway, path: str, length: int
) -> None:
    gateway = make_gateway(max_upload_bytes=1000, max_request_bytes=100_000)

    async def steps() -> Answer | None:
        protocol = FakeProtocol(slow=True)
        await gateway.__rsgi__(upload(length, path, ("expect", "100-continue")), protocol)
        return protocol.answer

    answer = run(gateway, steps)
    assert answer
    assert (answer.status, answer.headers["Connection"]) == (413, "close")


@pytest.mark.parametrize("path", ["/predict", "/", "/feedback", "/v1/predictions"])
@pytest.mark.parametrize("codings", [["br"], ["gzip", "gzip"]])
def test_a_client_that_asks_before_it_sends_a_coding_that_is_not_decoded_is_refused_before(
    make_gateway: MakeGateway, path: str, codings: list[str]
) -> None:
    gateway = make_gateway()
    headers = [("expect", "100-continue"), *(("content-encoding", coding) for coding in codings)]

    async def steps() -> Answer | None:
        protocol = FakeProtocol(slow=True)
        await gateway.__rsgi__(upload(1000, path, *headers), protocol)
        return protocol.answer

    answer = run(gateway, steps)
    assert answer
    assert (answer.status, answer.headers["Accept-Encoding"]) == (415, "gzip, deflate")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (("host", "evil.example"), "untrusted-host"),
        (("host", "localhost, evil.example"), "untrusted-host"),
        (("sec-fetch-site", "cross-site"), "cross-site"),
        (("origin", "http://evil.example"), "cross-site"),
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/", "/feedback", "/v1/predictions", "/v2/models/any/infer"])
def test_a_client_that_asks_before_it_sends_from_elsewhere_is_refused_before(
    make_gateway: MakeGateway, path: str, header: tuple[str, str], expected: str
) -> None:
    gateway = make_gateway()

    async def steps() -> Answer | None:
        protocol = FakeProtocol(slow=True)
        await gateway.__rsgi__(upload(1000, path, ("expect", "100-continue"), header), protocol)
        return protocol.answer

    answer = run(gateway, steps)
    assert answer
    assert answer.headers["Connection"] == "close"
    assert answer.headers["X-Error"].startswith(expected)


@pytest.mark.usefixtures("worker")
def test_a_compressed_body_is_answered_on_the_event_loop(make_gateway: MakeGateway, dog: bytes) -> None:
    gateway, body = make_gateway(), gzip.compress(form(dog))

    async def steps() -> Answer:
        return await ask(gateway, upload(len(body), "/predict", ("content-encoding", "gzip")), body)

    assert run(gateway, steps).status == 200


@pytest.mark.usefixtures("worker")
def test_no_kind_of_request_takes_the_threads_of_another(
    make_gateway: MakeGateway, queue: MemoryJobQueue, dog: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, go_on, body = make_gateway(api_threads=4), threading.Event(), form(dog)
    labels = queue.labels
    monkeypatch.setattr(queue, "labels", lambda: go_on.wait(60) and labels())
    before = threading.active_count()

    async def steps() -> list[Answer]:
        hanging = [asyncio.create_task(ask(gateway, FakeScope(path="/labels"))) for _ in range(200)]
        await asyncio.sleep(0)
        scopes = [FakeScope(), FakeScope(path="/readyz"), upload(len(body))]
        answers = [await ask(gateway, scope, body if scope.method == "POST" else b"") for scope in scopes]
        assert threading.active_count() - before <= SPARE_THREADS + 4
        assert not any(request.done() for request in hanging)
        go_on.set()
        return [*answers, *[await request for request in hanging]]

    assert {answer.status for answer in run(gateway, steps)} == {200}


@pytest.mark.parametrize("pieces", [[b""], [b"report=a", b""]], ids=["nothing", "a piece"])
def test_a_body_in_chunks_that_breaks_off_is_none(
    make_gateway: MakeGateway, tmp_path: Path, pieces: list[bytes]
) -> None:
    gateway = make_gateway()
    form_type = ("content-type", "application/x-www-form-urlencoded")
    scope = FakeScope("POST", "/feedback", FakeHeaders(("host", "localhost"), form_type, CHUNKED))
    assert run(gateway, lambda: ask(gateway, scope, *pieces)).status == 400
    assert not (tmp_path / "feedback" / "feedback").exists()


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "post", "MADEUP"])
def test_what_is_no_post_keeps_no_report(make_gateway: MakeGateway, tmp_path: Path, method: str) -> None:
    gateway = make_gateway()
    form_type = ("content-type", "application/x-www-form-urlencoded")
    scope = FakeScope(method, "/feedback", FakeHeaders(("host", "localhost"), form_type, ("content-length", "8")))
    assert run(gateway, lambda: ask(gateway, scope, b"report=a")).status in {200, 405}
    assert not (tmp_path / "feedback" / "feedback").exists()


def test_refusals_are_logged_together(
    make_gateway: MakeGateway,
    queue: MemoryJobQueue,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("api.server.gateway._REPORT_EVERY_S", 0.5)
    monkeypatch.setattr(queue, "refusal", lambda _ahead=0: QueueFull(retry_after_s=7))
    gateway = make_gateway()

    async def steps() -> None:
        for _ in range(20):
            await ask(gateway, upload(0))
        await until(lambda: sum(refused()) == 20)

    def refused() -> list[int]:
        return [int(line.getMessage().split()[1]) for line in caplog.records]

    run(gateway, steps)
    assert len(refused()) < 20
    assert {vars(line)["error"] for line in caplog.records} == {"queue-full"}


def test_who_hangs_up_while_waiting_frees_the_place_in_the_queue(
    make_gateway: MakeGateway,
    queue: MemoryJobQueue,
    worker: FakeWorker,
    dog: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker.stop()
    queue.heartbeat("slow", 0.01, "m1")
    gateway, body = make_gateway(), form(dog)
    submit, submitted = queue.submit, threading.Event()

    def submit_and_say_so(job: ImageJob) -> None:
        submit(job)
        submitted.set()

    monkeypatch.setattr(queue, "submit", submit_and_say_so)

    async def steps() -> None:
        protocol = FakeProtocol([body])
        request = asyncio.create_task(gateway.__rsgi__(upload(len(body)), protocol))
        await until(submitted.is_set)
        protocol.hang_up()
        await request

    run(gateway, steps)
    queue.heartbeat("slow", 0.01, "m1")
    assert queue.take_batch("slow", 1, 0) == []


def test_before_it_stops_it_is_not_ready_and_keeps_no_connection(make_gateway: MakeGateway) -> None:
    gateway = make_gateway()

    async def steps() -> list[Answer]:
        before = await ask(gateway, FakeScope(path="/livez"))
        gateway.drain()
        return [before, *[await ask(gateway, FakeScope(path=path)) for path in ("/livez", "/readyz")]]

    before, live, ready = run(gateway, steps)
    assert "Connection" not in before.headers
    assert (live.status, live.headers["Connection"]) == (200, "close")
    assert (ready.status, ready.headers["Connection"]) == (503, "close")
    assert b"stopping" in ready.body


def test_who_waits_longer_than_the_service_takes_to_stop_is_told_so(
    make_gateway: MakeGateway, queue: MemoryJobQueue, dog: bytes
) -> None:
    gateway, body = make_gateway(drain_s=0.5, stop_timeout_s=1), form(dog)
    queue.heartbeat("hung", 0.01, "m1")

    async def steps() -> Answer:
        gateway.drain()
        return await ask(gateway, upload(len(body)), body)

    answer = run(gateway, steps)
    assert answer.status == 503
    assert answer.headers["X-Error"].startswith("stopping")


def test_a_bug_is_a_500_and_not_a_client_that_waits_for_ever(
    make_gateway: MakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = make_gateway()

    def fail(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr("api.http.wsgi.call", fail)
    assert run(gateway, lambda: ask(gateway, FakeScope())).status == 500


def test_a_request_for_predictions_is_refused_with_a_problem_and_without_a_thread(
    make_gateway: MakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = make_gateway(max_upload_bytes=1000, max_request_bytes=200_000)
    monkeypatch.setattr(gateway, "_serve", None)
    scope = upload(200_001, "/v1/predictions", ("x-request-id", "order-7"))
    answer = run(gateway, lambda: ask(gateway, scope, bytes(1000)))
    assert (answer.status, answer.headers["Content-Type"]) == (413, "application/problem+json")
    problem = json.loads(answer.body)
    assert (problem["code"], problem["request_id"]) == ("too-many-bytes", "order-7")


@pytest.mark.parametrize("path", ["/v2/models/pets/infer", "/v2/models/pets/versions/7/infer"])
def test_an_inference_is_refused_as_its_protocol_does_and_without_a_thread(
    make_gateway: MakeGateway, queue: MemoryJobQueue, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    gateway = make_gateway(max_upload_bytes=1000, max_request_bytes=200_000)
    monkeypatch.setattr(gateway, "_serve", None)
    too_large = run(gateway, lambda: ask(gateway, upload(200_001, path), bytes(1000)))
    monkeypatch.setattr(queue, "refusal", lambda _ahead=0: QueueFull(retry_after_s=7))
    full = run(gateway, lambda: ask(gateway, upload(150_000, path), bytes(150_000)))
    assert [answer.status for answer in (too_large, full)] == [413, 429]
    assert (full.headers["Content-Type"], full.headers["Retry-After"]) == ("application/json", "7")
    assert json.loads(full.body) == {"error": str(QueueFull())}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/models/pets/infer"),
        ("POST", "/v2/models/pets"),
        ("POST", "/v2/models//infer"),
        ("POST", "/v2/models/a/b/infer"),
        ("POST", "/v2/models/pets/infer/"),
        ("POST", "/x/v2/models/pets/infer"),
    ],
)
def test_what_only_looks_like_an_inference_is_served_while_the_queue_is_full(
    make_gateway: MakeGateway, queue: MemoryJobQueue, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    monkeypatch.setattr(queue, "refusal", lambda _ahead=0: QueueFull(retry_after_s=7))
    gateway = make_gateway()
    assert run(gateway, lambda: ask(gateway, FakeScope(method, path))).status in {308, 404, 405}


@pytest.mark.usefixtures("worker")
def test_a_request_for_predictions_may_be_larger_than_others(make_gateway: MakeGateway, dog: bytes) -> None:
    gateway, body = make_gateway(max_request_bytes=1_000_000), form(dog) + bytes(800_000)
    scope = FakeScope(
        "POST", "/v1/predictions", FakeHeaders(("content-type", "image/png"), ("content-length", str(len(body))))
    )
    assert run(gateway, lambda: ask(gateway, scope, body)).status == 400  # it is read, and is no image


@pytest.mark.parametrize("spelling", ["wait=60", "w%61it=60", "a=b&%77%61%69%74=60"])
def test_who_waits_for_a_prediction_takes_a_place_until_the_service_stops(
    make_gateway: MakeGateway, queue: MemoryJobQueue, spelling: str
) -> None:
    gateway = make_gateway(api_threads=1)
    keep_pending(queue, "r1")

    async def steps() -> list[Answer]:
        waiting = asyncio.create_task(ask(gateway, poll("r1", spelling)))
        await until(lambda: gateway._polls.free == 0)  # noqa: SLF001 - nobody is told of it
        answers = [await ask(gateway, poll("r1", query)) for query in ("wait=1", "")]
        gateway.drain()
        return [*answers, await waiting]

    refused, read, waited = run(gateway, steps)
    assert (refused.status, json.loads(refused.body)["code"]) == (429, "queue-full")
    assert (read.status, waited.status) == (200, 200)
    assert json.loads(waited.body)["status"] == "pending"


@pytest.mark.usefixtures("worker")
def test_those_who_wait_for_predictions_leave_the_places_of_images_to_them(
    make_gateway: MakeGateway, queue: MemoryJobQueue, dog: bytes
) -> None:
    gateway, body = make_gateway(api_threads=4), form(dog)
    keep_pending(queue, "r1")

    async def steps() -> list[Answer]:
        waiting = [asyncio.create_task(ask(gateway, poll("r1", "wait=60"))) for _ in range(4)]
        await until(lambda: sum(request.done() for request in waiting) == 2)
        answer = await ask(gateway, upload(len(body)), body)
        gateway.drain()
        return [answer, *[await request for request in waiting]]

    image, *polls = run(gateway, steps)
    assert image.status == 200
    assert sorted(answer.status for answer in polls) == [200, 200, 429, 429]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_picture_is_sent_from_its_file_and_not_read_before(
    make_gateway: MakeGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(FolderImageStore, "get", None)
    gateway, image_hash = make_gateway(), "0" * 64
    paths = {
        f"/display/{image_hash}.png": tmp_path / "uploads",
        f"/status/pictures/{image_hash}.png": tmp_path / "feedback" / "images",
    }
    for folder in paths.values():
        folder.mkdir(parents=True)
        (folder / f"{image_hash}.png").write_bytes(str(folder).encode())

    async def steps() -> None:
        for path, folder in paths.items():
            protocol = FakeProtocol()
            await gateway.__rsgi__(FakeScope(method, path, client="127.0.0.1:40000"), protocol)
            assert protocol.file == str(folder / f"{image_hash}.png")
            assert protocol.answer
            assert protocol.answer.status == 200
            assert protocol.answer.headers["Content-Type"] == "image/png"
            assert protocol.answer.headers["Content-Length"] == str(len(str(folder)))
            assert "sandbox" in protocol.answer.headers["Content-Security-Policy"]

    run(gateway, steps)


def test_of_a_picture_that_is_gone_no_file_is_sent(make_gateway: MakeGateway) -> None:
    gateway = make_gateway()
    answer = run(gateway, lambda: ask(gateway, FakeScope(path=f"/display/{'0' * 64}.png")))
    assert answer.status == 404
    assert b"removed after a while" in answer.body


@pytest.mark.parametrize("path", ["/predict", "/v1/predictions", "/", "/feedback"])
def test_of_who_has_no_key_no_body_is_looked_at_and_each_request_counts(
    make_gateway: MakeGateway, tmp_path: Path, redis_url: str, path: str
) -> None:
    key = KeyFile(tmp_path / "keys").add("somebody", "100/day")
    gateway = make_gateway(
        api_keys_file=tmp_path / "keys",
        rate_limit="2/day",
        redis_url=redis_url,
        max_upload_bytes=1,
        max_request_bytes=1,
    )

    address = uuid4().int % 2**32  # whose requests no other test counts

    async def send(secret: str) -> int:
        scope = upload(100_000, path, ("authorization", f"Bearer {secret}"))
        scope.client = f"{IPv4Address(address)}:40000"
        return (await ask(gateway, scope, bytes(100_000))).status

    async def steps() -> list[int]:
        return [await send(secret) for secret in ("guess", "mlapi_guess", "x", key)]

    assert run(gateway, steps) == [401, 401, 429, 413]


def poll(result_id: str, query: str) -> FakeScope:
    return FakeScope(path=f"/v1/predictions/{result_id}", query_string=query)


def keep_pending(queue: MemoryJobQueue, result_id: str) -> None:
    """Store a prediction that never finishes."""
    request = {"top_k": 1, "created": "", "images": [{"filename": None, "name": None}]}
    queue.results.keep(result_id, Result(request, ("j1",)), 60)
