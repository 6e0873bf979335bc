"""Copies in a folder per class."""

from pathlib import Path

import pytest

from mlapi.collection.sorting import copy, folder_name
from runtime.errors import SetupError


@pytest.mark.parametrize("label", ["Eskimo_dog", "jack-o'-lantern", "tiger cat", "Käse", "犬"])
def test_a_label_that_can_be_a_name_is_the_folders(label: str) -> None:
    assert folder_name(label) == label


@pytest.mark.parametrize("label", ["../../etc", "a/b", "..", "", " dog", "dog.", "a\\b", "a:b", "a\nb", "é" * 200])
def test_any_other_label_becomes_a_name_of_its_own(label: str, tmp_path: Path) -> None:
    name = folder_name(label)
    (tmp_path / name).mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert name not in {folder_name(other) for other in ("a_b", "etc", "dog", "a b", ".._.._etc")}


def test_labels_that_differ_in_what_is_replaced_do_not_share_a_folder() -> None:
    assert len({folder_name(label) for label in ("a/b", "a\\b", "a:b", "a_b")}) == 4


def write(path: Path, content: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return str(path)


def test_an_image_is_copied_into_the_folder_of_its_class(tmp_path: Path) -> None:
    source = write(tmp_path / "photo.jpg", "one")
    target = copy(source, "Eskimo_dog", tmp_path / "sorted")
    assert target == tmp_path / "sorted" / "Eskimo_dog" / "photo.jpg"
    assert target.read_text() == "one"
    assert Path(source).exists()


def test_files_of_the_same_name_do_not_replace_each_other(tmp_path: Path) -> None:
    into = tmp_path / "sorted"
    targets = {copy(write(tmp_path / text / "photo.jpg", text), "dog", into) for text in ("one", "two", "three")}
    assert sorted(target.read_text() for target in targets) == ["one", "three", "two"]
    assert all(target.name.startswith("photo") and target.suffix == ".jpg" for target in targets)


def test_what_was_copied_before_is_not_copied_again(tmp_path: Path) -> None:
    into = tmp_path / "sorted"
    for text in ("one", "two", "one", "two"):
        copy(write(tmp_path / text / "photo.jpg", text), "dog", into)
    assert len(list((into / "dog").iterdir())) == 2


def test_a_copy_of_an_earlier_run_is_told_by_size_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [write(tmp_path / text / "photo.jpg", text) for text in ("one", "another")]
    targets = [copy(source, "dog", tmp_path / "sorted") for source in sources]
    monkeypatch.setattr("filecmp._do_cmp", lambda *_: pytest.fail("the copy was read"))
    assert copy(sources[0], "dog", tmp_path / "sorted", again=True) == targets[0]
    monkeypatch.undo()
    assert copy(sources[1], "dog", tmp_path / "sorted", again=True) == targets[1]


def test_a_copy_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "sorted").touch()
    with pytest.raises(SetupError, match=r"photo\.jpg cannot be copied"):
        copy(write(tmp_path / "photo.jpg", "one"), "dog", tmp_path / "sorted")
    with pytest.raises(SetupError, match=r"gone\.jpg cannot be copied"):
        copy(str(tmp_path / "gone.jpg"), "dog", tmp_path / "other")
