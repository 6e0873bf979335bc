"""The contract of every store of images."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from jobs.settings import SharedSettings
from jobs.storage.images import FolderImageStore, ImageStore
from jobs.storage.opening import open_store
from runtime.errors import StorageUnavailable

DATA = bytes(range(256)) * 4000
# Larger than the largest piece that S3 clients send by default.
LARGE = bytes(range(256)) * 40_000


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ImageStore:
    if request.param == "folder":
        return FolderImageStore(tmp_path / "uploads")
    bucket = request.getfixturevalue("s3").bucket
    return open_store(SharedSettings(upload_url=f"s3://{bucket}/{uuid4().hex}"))


@pytest.fixture(params=["folder", "s3"])
def store_that_is_away(request: pytest.FixtureRequest, tmp_path: Path) -> ImageStore:
    if request.param == "folder":
        (tmp_path / "file").touch()
        return FolderImageStore(tmp_path / "file")
    request.getfixturevalue("s3")
    return open_store(SharedSettings(upload_url="s3://no-such-bucket"))


@pytest.mark.parametrize("data", [b"", DATA, LARGE], ids=["empty", "large", "very large"])
def test_an_image_comes_back_as_it_was_stored(store: ImageStore, data: bytes) -> None:
    store.put("a.png", data)
    assert store.get("a.png") == data


def test_an_image_may_be_stored_again(store: ImageStore) -> None:
    for _ in range(2):
        store.put("a.png", DATA)
    assert store.get("a.png") == DATA


def test_an_image_that_is_not_there_is_an_error(store: ImageStore) -> None:
    with pytest.raises(FileNotFoundError):
        store.get("a.png")


def test_many_callers_store_the_same_image_and_none_sees_half_of_it(store: ImageStore) -> None:
    def put_and_get(_: int) -> bytes:
        store.put("a.png", DATA)
        return store.get("a.png")

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(put_and_get, range(16))) == {DATA}


def test_several_images_come_in_order_and_one_that_is_missing_fails_alone(store: ImageStore) -> None:
    for name in ("a.png", "c.png"):
        store.put(name, name.encode())
    first, missing, last = store.fetch(["a.png", "b.png", "c.png"])
    assert (first(), last()) == (b"a.png", b"c.png")
    with pytest.raises(FileNotFoundError):
        missing()


def test_what_cannot_be_stored_is_unavailable(store_that_is_away: ImageStore) -> None:
    with pytest.raises(StorageUnavailable):
        store_that_is_away.put("a.png", DATA)
