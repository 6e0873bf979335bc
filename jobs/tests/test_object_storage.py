"""Uploads in object storage."""

import asyncio
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from jobs.schema import image_hash
from jobs.settings import SharedSettings
from jobs.storage import object_storage
from jobs.storage.object_storage import ObjectImageStore, reason
from jobs.storage.opening import open_store
from jobs.storage.retention import Swept, Uploads, UploadSweeper
from runtime import waiting
from runtime.errors import SetupError, StorageUnavailable
from testing.s3_server import S3Server

DAY_S = 86_400


def name(number: int) -> str:
    return f"{number:064x}.png"


@pytest.fixture
def url(s3: S3Server) -> str:
    return f"s3://{s3.bucket}/{uuid4().hex}"


@pytest.fixture
def store(url: str) -> ObjectImageStore:
    return ObjectImageStore(url)


def stored_at(store: ObjectImageStore) -> float:
    """Return when the only image was stored."""
    [(at, _)] = store.uploads()
    return at


def put_later(store: ObjectImageStore, image: str) -> float:
    """Store an image at a later second than the others, and return it."""
    before, deadline = max(at for at, _ in store.uploads()), time.monotonic() + 30
    while True:
        store.put(image, b"new")
        latest = max(at for at, _ in store.uploads())
        if latest > before:
            return latest
        assert time.monotonic() < deadline


def test_an_image_that_is_stored_again_counts_as_new(store: ObjectImageStore) -> None:
    store.put(name(1), b"old")
    first = stored_at(store)
    assert put_later(store, name(1)) > first
    assert store.remove_stored_before(first + 1) == []


def test_old_images_go_but_for_queued_ones_and_new_ones_stay_however_many_lists_it_takes(
    store: ObjectImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_storage, "_NAMES_PER_LIST", 2)
    for number in range(5):
        store.put(name(number), b"four")
    new = put_later(store, name(9))
    assert store.remove_stored_before(new, {image_hash(name(3))}) == [4] * 4
    assert store.get(name(3)) == b"four"
    assert store.remove_stored_before(new) == [4]
    assert list(store.uploads()) == [(new, 3)]


@pytest.mark.parametrize("other", ["notes.txt", f"{1:063x}.png", f"folder/{1:064x}.png"])
def test_objects_of_others_stay(store: ObjectImageStore, other: str) -> None:
    store.put(other, b"not an upload")
    assert list(store.uploads()) == []
    assert store.remove_stored_before(time.time() + DAY_S) == []
    assert store.get(other) == b"not an upload"


def test_a_prefix_is_swept_alone(store: ObjectImageStore, s3: S3Server) -> None:
    other = ObjectImageStore(f"s3://{s3.bucket}/{uuid4().hex}")
    other.put(name(1), b"another service's")
    store.put(name(2), b"ours")
    assert store.remove_stored_before(time.time() + DAY_S) == [4]
    assert other.get(name(1)) == b"another service's"


def test_a_sweeper_sweeps_it(store: ObjectImageStore) -> None:
    uploads: Uploads = store
    store.put(name(1), b"old")
    put_later(store, name(2))
    sweeper = UploadSweeper(uploads, frozenset, max_age_s=DAY_S, max_bytes=4, needed_s=0)
    assert sweeper.sweep() == Swept(1, 3)
    with pytest.raises(FileNotFoundError):
        store.get(name(1))


def test_of_several_processes_one_sweeps_in_a_while(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one, another = ObjectImageStore(url), ObjectImageStore(url)
    with one.turn() as now:
        assert now == pytest.approx(time.time(), abs=30)
    with another.turn() as now:
        assert now is None
    monkeypatch.setattr(object_storage, "_SWEEP_EVERY_S", 0)
    with another.turn() as now:
        assert now is not None


@pytest.mark.usefixtures("s3")
def test_a_sweep_without_storage_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped, tries = threading.Event(), iter(range(2))
    store = ObjectImageStore("s3://no-such-bucket")
    monkeypatch.setattr(ObjectImageStore, "sweep_every_s", 0.01)

    class Sweeper(UploadSweeper):
        def sweep(self) -> Swept | None:
            if next(tries) == 1:
                stopped.set()
            return super().sweep()

    Sweeper(store, frozenset, max_age_s=1, max_bytes=1, needed_s=1).run(stopped)
    assert list(tries) == []


def test_images_are_fetched_at_the_same_time(store: ObjectImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    all_at_once = threading.Barrier(4, timeout=30)

    def get(_: ObjectImageStore, name: str) -> bytes:
        all_at_once.wait()
        return name.encode()

    monkeypatch.setattr(ObjectImageStore, "get", get)
    assert [read() for read in store.fetch(["a", "b", "c", "d"])] == [b"a", b"b", b"c", b"d"]


def test_an_event_loop_goes_on_while_an_image_is_on_its_way(store: ObjectImageStore, s3: S3Server) -> None:
    async def store_and_resume() -> bytes:
        with ThreadPoolExecutor(1) as threads, s3.paused():
            storing = asyncio.create_task(waiting.run(lambda: store.put("a.png", b"pixels"), threads))
            await asyncio.sleep(0)
            s3.resume()  # never reached if `put` blocks the loop
            await storing
            return await waiting.run(lambda: store.get("a.png"), threads)

    assert asyncio.run(store_and_resume()) == b"pixels"


def test_storage_that_does_not_answer_is_given_up(url: str, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for constant in ("_ATTEMPT_S", "_RETRY_S"):
        monkeypatch.setattr(object_storage, constant, 0.2)
    impatient = ObjectImageStore(url)
    with s3.paused():
        with pytest.raises(StorageUnavailable):
            impatient.put("a.png", b"pixels")
        with pytest.raises(StorageUnavailable):
            impatient.get("a.png")
    impatient.put("a.png", b"pixels")
    assert impatient.get("a.png") == b"pixels"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("PUT https://a.example/c/a.png?sig=secret after 3\nDebug: secret", "PUT https://a.example/c/a.png after 3"),
        ("403: <Error><Code>InvalidToken</Code><AWSAccessKeyId>secret</AWSAccessKeyId></Error>", "403: InvalidToken"),
        ('404: <?xml version="1.0"?>\n<Error><Code>NoSuchBucket</Code></Error>', "404: NoSuchBucket"),
    ],
)
def test_reasons_have_no_secrets(said: str, expected: str) -> None:
    assert reason(Exception(said)) == expected


def test_an_address_that_the_client_does_not_understand_is_a_setup_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "")
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(SetupError, match="UPLOAD_URL=az://container cannot be used"):
        ObjectImageStore("az://container")


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AZURE_STORAGE_ENDPOINT"])
@pytest.mark.parametrize(
    "endpoint",
    [
        "http://me:secret@127.0.0.1",
        "http://me:secret/x@127.0.0.1",
        "https://minio?key=secret",
        "127.0.0.1:9000/secret",
        "http://secret minio",
        "http://secret:99999",
        "http://secret:0",
        "s3://secret",
    ],
)
def test_an_address_that_is_none_or_has_a_password_is_refused_without_it(
    monkeypatch: pytest.MonkeyPatch, name: str, endpoint: str
) -> None:
    monkeypatch.setenv("UPLOAD_URL", "s3://bucket")
    monkeypatch.setenv(name, endpoint)
    with pytest.raises(SetupError, match=f"UPLOAD_URL=s3://bucket: {name} must be http") as refused:
        SharedSettings.from_env()
    assert "secret" not in str(refused.value)


def test_without_its_client_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jobs.storage.object_storage", None)
    with pytest.raises(SetupError, match=r"flask-ml-api\[storage\]"):
        open_store(SharedSettings(upload_url="s3://bucket"))


@pytest.mark.parametrize(
    "url", ["s3:bucket", "s3://", "file:///uploads", "http://bucket", "s3://key:secret@bucket", "az://container?sig=secret"]
)  # fmt: skip
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="It must be s3://bucket/prefix"):
        SharedSettings(upload_url=url)
