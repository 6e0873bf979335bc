"""Finding the files of a collection."""

import os
from collections import Counter
from pathlib import Path

import pytest

from mlapi.collection.paths import find, missing


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b/2.jpg", "b/10.JPEG", "b/notes.txt", "a.png", "c.gif", ".hidden/x.jpg", "b/._2.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    return tmp_path


def test_a_folder_has_its_images_and_those_below_in_the_order_of_their_names(folder: Path) -> None:
    expected = ["photos/a.png", "photos/b/10.JPEG", "photos/b/2.jpg", "photos/c.gif"]
    assert list(find(["photos"])) == list(find(["photos/"])) == expected
    assert list(find([str(folder)])) == [str(folder / path) for path in expected]


def test_a_file_that_is_named_may_end_as_it_likes(folder: Path) -> None:
    assert folder.exists()
    assert list(find(["photos/b/notes.txt", "photos/a.png"])) == ["photos/b/notes.txt", "photos/a.png"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("photos/*.png", ["photos/a.png"]),
        ("photos/b", ["photos/b/10.JPEG", "photos/b/2.jpg"]),
        ("*/b", ["photos/b/10.JPEG", "photos/b/2.jpg"]),
        ("photos/**/*.jp*g", ["photos/b/2.jpg"]),
        ("photos/[bc]*", ["photos/b/10.JPEG", "photos/b/2.jpg", "photos/c.gif"]),
    ],
)
def test_globs_match_as_in_a_shell(folder: Path, pattern: str, found: list[str]) -> None:
    assert folder.exists()
    assert list(find([pattern])) == found


def test_a_name_that_looks_like_a_glob_and_is_there_is_that_file(folder: Path) -> None:
    (folder / "photos/[1].jpg").touch()
    (folder / "photos/1.jpg").touch()
    assert list(find(["photos/[1].jpg"])) == ["photos/[1].jpg"]


def test_files_with_other_endings_are_counted_by_them(folder: Path) -> None:
    (folder / "photos" / "b" / "3.WEBP").touch()
    (folder / "photos" / "b" / "4.webp").touch()
    (folder / "photos" / "README").touch()
    ignored = Counter[str]()
    assert len(list(find(["photos"], ignored=ignored))) == 4
    assert ignored == {".webp": 2, ".txt": 1, "": 1}


def test_the_folder_of_copies_is_left_out(folder: Path) -> None:
    assert list(find(["photos"], without=folder / "photos" / "b")) == ["photos/a.png", "photos/c.gif"]


def test_a_link_to_a_folder_above_leads_nowhere(folder: Path) -> None:
    (folder / "photos" / "loop").symlink_to(folder)
    assert len(list(find(["photos"]))) == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_is_not_forgotten(folder: Path) -> None:
    (folder / "photos" / "b").chmod(0)
    try:
        assert "photos/b" in list(find(["photos"]))
    finally:
        (folder / "photos" / "b").chmod(0o755)


def test_what_names_nothing_is_told(folder: Path) -> None:
    (folder / "gone").symlink_to("nowhere")  # a file that will fail later
    assert missing(["photos", "photos/*.png", "nothing", "photos/*.bmp", "gone"]) == ["nothing", "photos/*.bmp"]


@pytest.mark.parametrize("name", ["=cmd().png", "+1.png", "-1.png", "@x.png", "\t=1.png"])
def test_no_path_is_a_formula_to_a_spreadsheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).touch()
    assert list(find([name])) == [f"./{name}"]
    Path("=folder").mkdir()
    Path("=folder", name).touch()
    assert list(find(["=folder"])) == [f"./=folder/{name}"]
    assert Path(f"./{name}").is_file()
