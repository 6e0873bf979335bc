"""Checks on uploads."""

import pytest

from api.utils import allowed_file, get_file_hash, is_other_file


@pytest.mark.parametrize("filename", ["a.png", "a.jpg", "a.jpeg", "a.gif", "A.PNG", "b.JpEg", "two.dots.gif"])
def test_endings_of_images_are_allowed_in_any_case(filename: str) -> None:
    assert allowed_file(filename)


@pytest.mark.parametrize("filename", ["", "a", "a.txt", "png", ".png", "a.png.exe", "a.svg", "a.JPG "])
def test_other_names_are_not(filename: str) -> None:
    assert not allowed_file(filename)


@pytest.mark.parametrize(
    "filename",
    [
        "a.txt",
        "a.PDF",
        "a.png.exe",
        "a.svg",
        "slides.odt",
        "a.docx",
        "a.tar.gz",
        "C:\\a.zip",
        "a.txt ",
        'a.txt"',
        "a.txt.",
    ],
)
def test_endings_of_other_files_are_known(filename: str) -> None:
    assert is_other_file(filename)


@pytest.mark.parametrize(
    "filename",
    [
        "",
        "a",
        "blob",
        "/",
        ".",
        "..",
        "a.jpg",
        ".png",
        "a.jfif",
        "a.JPE",
        "a.jpg.tmp",
        "a.jpg~",
        "a.JPG ",
        "a.jpg:large",
        "IMG_1.2",
        "photo.final",
        "a.bin",
        "a.part",
        "mr. smith",
        "a.jpg?x=1",
        "\ud800",
        "a" * 10_000,
    ],
)
def test_names_that_do_not_say_so_may_be_those_of_images(filename: str) -> None:
    assert not is_other_file(filename)


def test_the_hash_of_a_file_is_the_sha256_of_its_content() -> None:
    assert get_file_hash(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
