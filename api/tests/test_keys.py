"""The API key file."""

import json
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from api.access.keys import KeyFile, KeyFileError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "keys.json"


@pytest.fixture
def keys(path: Path) -> KeyFile:
    return KeyFile(path)


def test_a_key_is_found_by_itself_only(keys: KeyFile) -> None:
    alices, bobs = keys.add("alice"), keys.add("bob", "10/second")
    for secret, name, rate in ((alices, "alice", None), (bobs, "bob", "10/second")):
        found = keys.find(secret)
        assert found is not None
        assert (found.name, found.rate) == (name, rate)


@pytest.mark.parametrize(
    "change", [str.upper, lambda key: key[:-1], lambda key: f"{key} ", lambda _: "", lambda _: "é"]
)
def test_what_is_not_the_key_is_not_found(keys: KeyFile, change: type[str]) -> None:
    assert keys.find(change(keys.add("alice"))) is None


def test_a_hash_in_the_file_is_no_key(keys: KeyFile, path: Path) -> None:
    keys.add("alice")
    assert keys.find(json.loads(path.read_text())[0]["sha256"]) is None


def test_keys_differ_and_have_256_random_bits(keys: KeyFile) -> None:
    made = {keys.add(f"user{number}") for number in range(20)}
    assert len(made) == 20
    assert {(key[:6], len(key)) for key in made} == {("mlapi_", 6 + 43)}  # 43 characters of 6 bits


def test_the_file_holds_no_key_and_is_its_owners_alone(keys: KeyFile, path: Path) -> None:
    before = os.umask(0)
    try:
        secret = keys.add("alice")
    finally:
        os.umask(before)
    assert secret.removeprefix("mlapi_") not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_change_counts_at_once_in_other_processes(keys: KeyFile, path: Path) -> None:
    of_another_process = KeyFile(path)
    assert of_another_process.find("anything") is None
    secret = keys.add("alice")
    assert of_another_process.find(secret) is not None
    keys.remove("alice")
    assert of_another_process.find(secret) is None
    secret = keys.add("alice")
    path.unlink()
    assert of_another_process.find(secret) is None


def test_a_name_is_given_once(keys: KeyFile) -> None:
    secret = keys.add("alice")
    with pytest.raises(KeyFileError, match="alice already"):
        keys.add("alice")
    assert keys.find(secret) is not None


def test_only_a_key_that_exists_can_be_removed(keys: KeyFile) -> None:
    with pytest.raises(KeyFileError, match="no key alice"):
        keys.remove("alice")


@pytest.mark.parametrize("name", ["", "two words", "-x", ".x", "é", "a\n", "a%s", "[a]", "x" * 65])
def test_a_name_that_would_confuse_a_log_is_refused(keys: KeyFile, path: Path, name: str) -> None:
    with pytest.raises(KeyFileError, match=r"^A name has up to 64 letters"):
        keys.add(name)
    assert not path.exists()


def test_a_rate_that_is_none_is_refused(keys: KeyFile) -> None:
    with pytest.raises(KeyFileError, match=r"^It must be a number .* 600/minute"):
        keys.add("alice", "often")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        '[{"name": "alice"}]',
        '[{"name": "alice", "sha256": "abc"}]',
        f'[{{"name": "alice", "sha256": "{"0" * 64}", "rate": "often"}}]',
        f'[{{"name": "alice", "sha256": "{"0" * 64}", "admin": true}}]',
        f'[{{"name": "two words", "sha256": "{"0" * 64}"}}]',
    ],
)
def test_a_damaged_file_is_named_and_not_overwritten(keys: KeyFile, path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content)
    for use in (keys.read, lambda: keys.find("x"), lambda: keys.add("alice"), lambda: keys.remove("alice")):
        with pytest.raises(KeyFileError, match=r"keys\.json"):
            use()
    assert path.read_text() == content


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KeyFileError, match="file/keys"):
        KeyFile(tmp_path / "file" / "keys").add("alice")


def _add_many(path: Path, name: str) -> None:
    for number in range(20):
        KeyFile(path).add(f"{name}{number}")


def test_keys_that_several_processes_add_at_once_are_all_kept(path: Path) -> None:
    with ProcessPoolExecutor(3) as pool:
        list(pool.map(_add_many, [path] * 3, "abc"))
    assert len(KeyFile(path).read()) == 60
