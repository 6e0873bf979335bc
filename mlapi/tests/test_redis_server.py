"""The folders of the Redis that `mlapi serve` starts."""

import os
from pathlib import Path

import pytest

from mlapi.service import redis_server
from runtime.errors import SetupError


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make a folder, and set TMPDIR to it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return tmp_path


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_the_socket_has_a_folder_of_its_own_that_no_other_user_enters(temporary: Path) -> None:
    with redis_server.runtime_folder() as one, redis_server.runtime_folder() as other:
        assert one != other
        assert one.parent == other.parent == temporary
        assert (mode(one), mode(other)) == (0o700, 0o700)
    assert not list(temporary.iterdir())


def test_where_paths_are_too_long_for_a_socket_another_folder_is_found(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long, short = temporary / ("x" * 100), Path(f"/tmp/mlapi-test-{os.getpid()}")  # noqa: S108 - made here
    for folder in (long, short):
        folder.mkdir(0o700)
    monkeypatch.setattr("tempfile.tempdir", str(long))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    with redis_server.runtime_folder() as folder:
        assert folder.parent == short
    short.rmdir()
    with redis_server.runtime_folder() as folder:
        assert folder.parent == Path("/tmp")  # noqa: S108 - compared
        assert mode(folder) == 0o700


@pytest.mark.parametrize(
    ("open_to", "used"), [(0o700, True), (0o755, True), (0o1777, True), (0o777, False), (0o770, False)]
)
def test_a_folder_in_which_others_may_rename_is_not_used(temporary: Path, open_to: int, used: bool) -> None:
    temporary.chmod(open_to)
    with redis_server.runtime_folder() as folder:
        assert (folder.parent == temporary) is used


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user")
def test_a_folder_of_another_user_is_not_used(temporary: Path) -> None:
    os.chown(temporary, 12_345, -1)
    with redis_server.runtime_folder() as folder:
        assert folder.parent != temporary


def test_without_any_folder_that_suits_it_says_what_to_do(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_server, "MAX_SOCKET_PATH_BYTES", 10)
    with pytest.raises(SetupError, match=rf"TMPDIR={temporary}: .* Set TMPDIR"), redis_server.runtime_folder():
        pass


def test_what_redis_keeps_is_in_a_folder_that_no_other_user_enters(tmp_path: Path) -> None:
    with redis_server.kept_in(tmp_path / "var" / "queue") as folder:
        assert mode(folder) == 0o700


@pytest.mark.parametrize("open_to", [0o701, 0o750, 0o755, 0o777, 0o1777])
def test_a_folder_that_other_users_may_enter_is_refused(tmp_path: Path, open_to: int) -> None:
    folder = tmp_path / "queue"
    folder.mkdir()
    folder.chmod(open_to)
    with (
        pytest.raises(SetupError, match=rf"REDIS_FOLDER={folder}: .*`chmod 700 {folder}`"),
        redis_server.kept_in(folder),
    ):
        pass


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(SetupError, match="belongs to another user"), redis_server.kept_in(tmp_path):
        pass
