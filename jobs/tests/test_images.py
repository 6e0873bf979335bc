"""Stores for uploads."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobs.storage.images import FolderImageStore
from runtime.errors import StorageUnavailable

DATA = bytes(range(256)) * 4000


def test_an_image_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    store = FolderImageStore(tmp_path / "new" / "folder")
    store.put("a.png", DATA)
    assert store.get("a.png") == DATA


def test_many_callers_store_the_same_image_and_none_sees_half_of_it(tmp_path: Path) -> None:
    store = FolderImageStore(tmp_path)

    def put_and_get(_: int) -> bytes:
        store.put("a.png", DATA)
        return store.get("a.png")

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(put_and_get, range(64))) == {DATA}
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StorageUnavailable):
        FolderImageStore(tmp_path).put("a.png", DATA)
    assert list(tmp_path.iterdir()) == []


def test_an_image_of_which_a_loss_of_power_left_a_part_is_written_again(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(DATA[:100])
    store = FolderImageStore(tmp_path)
    store.put("a.png", DATA)
    assert store.get("a.png") == DATA


def test_another_user_may_read_what_is_stored(tmp_path: Path) -> None:
    FolderImageStore(tmp_path).put("a.png", DATA)
    assert (tmp_path / "a.png").stat().st_mode & 0o777 == 0o644


def test_an_image_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FolderImageStore(tmp_path).get("a.png")


def test_an_old_image_is_removed_unless_it_was_stored_again(tmp_path: Path) -> None:
    store = FolderImageStore(tmp_path)
    store.put("a.png", DATA)
    os.utime(tmp_path / "a.png", (1000, 1000))
    assert not store.remove("a.png", stored_before=1000)
    assert store.remove("a.png", stored_before=1001)
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_is_stored_while_it_is_removed_is_there_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, unlink = FolderImageStore(tmp_path), Path.unlink
    store.put("a.png", DATA)
    os.utime(tmp_path / "a.png", (1000, 1000))
    again = threading.Thread(target=store.put, args=("a.png", DATA))

    def unlink_late(path: Path) -> None:
        """Let the other caller act between the check of the time and the removal, unless it has to wait."""
        again.start()
        again.join(0.3)
        unlink(path)

    monkeypatch.setattr(Path, "unlink", unlink_late)
    assert store.remove("a.png", stored_before=1001)
    again.join()
    assert store.get("a.png") == DATA


def test_another_users_file_is_replaced_by_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    store = FolderImageStore(tmp_path)
    store.put("a.png", DATA)
    before = (tmp_path / "a.png").stat().st_ino
    monkeypatch.setattr(os, "utime", refuse)
    store.put("a.png", DATA)
    assert (tmp_path / "a.png").stat().st_ino != before
