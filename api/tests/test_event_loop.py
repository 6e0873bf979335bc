"""No request may block the shared event loop while it waits for Redis or object storage."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from obstore.store import S3Store
from redis.connection import AbstractConnection

from api.app import create_app
from api.server.gateway import Gateway
from api.settings import ApiSettings
from api.tests.conftest import DOG
from jobs.redis.queue import RedisJobQueue
from jobs.schema import ModelInfo
from testing.rsgi_client import FakeHeaders, FakeProtocol, FakeScope
from testing.s3_server import S3Server

MULTIPART, JPEG = ("content-type", "multipart/form-data; boundary=b"), ("content-type", "image/jpeg")
WITHOUT_JSON = ("inference-header-content-length", "0")


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
    """Answer every job, in a thread."""
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


def form(*files: bytes) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="dog.jpeg"\r\n\r\n'
    return b"".join(head + data + b"\r\n" for data in files) + b"--b--\r\n"


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
        ("/v2/models/pets/infer", 200, [JPEG, WITHOUT_JSON]),
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
    # The second response comes from the cache or the idempotency key.
    asked = ask(settings, path, form(image) if MULTIPART in headers else image, headers, times=1 + again)
    assert asked == status
    assert talked
    assert threading.current_thread().name not in talked


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("path", "headers"),
    [("/predict", [MULTIPART]), ("/v1/predictions", [JPEG]), ("/v2/models/pets/infer", [JPEG, WITHOUT_JSON])],
)
def test_no_request_with_an_image_holds_the_loop_while_it_talks_to_object_storage(
    settings: ApiSettings,
    dog: bytes,
    monkeypatch: pytest.MonkeyPatch,
    s3: S3Server,
    path: str,
    headers: list[tuple[str, str]],
) -> None:
    talked, put = set[str](), S3Store.put

    def put_here(self: S3Store, *args: Any, **options: Any) -> object:
        talked.add(threading.current_thread().name)
        return put(self, *args, **options)

    monkeypatch.setattr(S3Store, "put", put_here)
    there = settings.model_copy(update={"upload_url": f"s3://{s3.bucket}/loop"})
    assert ask(there, path, form(dog) if MULTIPART in headers else dog, headers) == 200
    assert talked
    assert threading.current_thread().name not in talked


@pytest.mark.usefixtures("worker")
def test_the_images_of_a_request_go_to_object_storage_at_the_same_time(
    settings: ApiSettings, dog: bytes, monkeypatch: pytest.MonkeyPatch, s3: S3Server
) -> None:
    all_at_once = threading.Barrier(3, timeout=30)
    monkeypatch.setattr(S3Store, "put", lambda *_, **__: all_at_once.wait())
    there = settings.model_copy(update={"upload_url": f"s3://{s3.bucket}/loop"})
    assert ask(there, "/v1/predictions", form(dog, dog + b"2", dog + b"3"), [MULTIPART]) == 200
    assert not all_at_once.broken


def ask(settings: ApiSettings, path: str, body: bytes, headers: list[tuple[str, str]], times: int = 1) -> int:
    """Post a body repeatedly to an API on an event loop, and return the last status."""
    app = create_app(settings)
    services = app.extensions["services"]

    async def post() -> int:
        gateway = Gateway(app, settings, services.queue)
        gateway.__rsgi_init__(asyncio.get_running_loop())
        length = ("content-length", str(len(body)))
        for _ in range(times):
            protocol = FakeProtocol([body])
            scope = FakeScope("POST", path, FakeHeaders(("host", "localhost"), length, *headers))
            await asyncio.wait_for(gateway.__rsgi__(scope, protocol), 60)
        assert protocol.answer
        return protocol.answer.status

    try:
        return asyncio.run(post())
    finally:
        services.queue.close()
        services.results.close()
