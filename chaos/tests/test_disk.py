"""The small disk."""

from pathlib import Path

import pytest

from chaos import disk
from jobs.storage.images import FolderImageStore
from runtime.errors import StorageUnavailable


def test_a_full_disk_takes_no_image_until_there_is_room_again(tmp_path: Path) -> None:
    store = FolderImageStore(tmp_path)
    try:
        with disk.mounted(tmp_path):
            store.put("a.png", b"before")
            with disk.filled(tmp_path):
                with pytest.raises(StorageUnavailable):
                    store.put("b.png", bytes(100_000))
                assert store.get("a.png") == b"before"
                assert {path.name for path in tmp_path.iterdir()} == {"a.png", "filler"}
            store.put("b.png", b"after")
            assert store.get("b.png") == b"after"
    except disk.CannotMount as err:
        pytest.skip(str(err))
    assert list(tmp_path.iterdir()) == []
