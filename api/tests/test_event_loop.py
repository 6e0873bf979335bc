"""The event loop, which all requests share: none may hold it while it waits for Redis."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.connection import AbstractConnection

from api.app import create_app
from api.gateway import Gateway
from api.settings import ApiSettings
from api.tests.conftest import DOG
from api.tests.rsgi_client import FakeHeaders, FakeProtocol, FakeScope
from jobs.redis_queue import RedisJobQueue
from jobs.schema import ModelInfo

MULTIPART, JPEG = ("content-type", "multipart/form-data; boundary=b"), ("content-type", "image/jpeg")


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> ApiSettings:
    return ApiSettings(
        redis_url=redis_url,
        upload_folder=tmp_path / "uploads",
        feedback_filepath=tmp_path / "feedback",
        rate_limit="1000/minute",
    )


@pytest.fixture
def worker(settings: ApiSettings) -> Iterator[None]:
    """Answer every job, from a thread."""
    queue, stopped = RedisJobQueue.from_settings(settings), threading.Event()
    queue.publish(ModelInfo("m1", "pets"))
    queue.heartbeat("w1", 0.01, "m1")

    def run() -> None:
        while not stopped.is_set():
            queue.heartbeat("w1", 0.01, "m1")
            queue.finish([(delivery, DOG) for delivery in queue.take_batch("w1", 10, 0.05)])

    thread = threading.Thread(target=run)
    thread.start()
    yield
    stopped.set()
    thread.join()
    queue.retire("w1")
    queue.close()


def form(data: bytes) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="dog.jpeg"\r\n\r\n'
    return head + data + b"\r\n--b--\r\n"


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    ("path", "status", "headers"),
    [
        ("/predict", 200, [MULTIPART]),
        ("/", 200, [MULTIPART]),
        ("/v1/predictions", 200, [MULTIPART]),
        ("/v1/predictions", 200, [JPEG, ("idempotency-key", "now")]),
        ("/v1/predictions", 202, [JPEG, ("prefer", "respond-async"), ("idempotency-key", "later")]),
        ("/v2/models/pets/infer", 200, [JPEG, ("inference-header-content-length", "0")]),
    ],
)
def test_no_request_with_an_image_holds_the_loop_while_it_talks_to_redis(
    settings: ApiSettings,
    dog: bytes,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    status: int,
    headers: list[tuple[str, str]],
    again: bool,
) -> None:
    talked = set[str]()
    send = AbstractConnection.send_packed_command

    def send_packed_command(self: AbstractConnection, *args: object, **options: object) -> None:
        talked.add(threading.current_thread().name)
        send(self, *args, **options)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(AbstractConnection, "send_packed_command", send_packed_command)
    image = dog + path.encode() + str(headers).encode()
    body = form(image) if MULTIPART in headers else image
    app = create_app(settings)
    services = app.extensions["services"]

    async def ask() -> int:
        gateway = Gateway(app, settings, services.queue)
        gateway.__rsgi_init__(asyncio.get_running_loop())
        length = ("content-length", str(len(body)))
        for _ in range(1 + again):  # the second time, from the cache or by the idempotency key
            protocol = FakeProtocol([body])
            scope = FakeScope("POST", path, FakeHeaders(("host", "localhost"), length, *headers))
            await asyncio.wait_for(gateway.__rsgi__(scope, protocol), 60)
        assert protocol.answer
        return protocol.answer.status

    assert asyncio.run(ask()) == status
    assert talked
    assert threading.current_thread().name not in talked
    services.queue.close()
    services.results.close()
