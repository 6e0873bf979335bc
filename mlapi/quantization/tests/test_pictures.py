"""Selecting pictures for calibration and comparison."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from mlapi.collection import sorting
from mlapi.quantization import pictures as chosen
from mlapi.quantization.tests.conftest import MakeModel
from model.preprocessing import preprocess
from runtime.errors import SetupError

MAX_PIXELS = 10**6


def test_the_pictures_of_all_classes_are_mixed_and_always_in_the_same_way(pictures: Path) -> None:
    found = chosen.find(pictures)
    assert found == chosen.find(pictures)
    assert len({Path(path).parent.name for path in found[:10]}) == 4
    assert sorted(found) == sorted(map(str, pictures.rglob("*.png")))


def test_a_picture_has_the_pixels_that_a_worker_would_give_the_network(make_model: MakeModel, pictures: Path) -> None:
    manifest = make_model()
    for picture in chosen.read(chosen.find(pictures), manifest, MAX_PIXELS):
        expected = preprocess(Path(picture.path).read_bytes(), manifest, MAX_PIXELS)
        np.testing.assert_array_equal(picture.pixels, expected)


def test_files_that_cannot_be_read_and_copies_are_left_out(make_model: MakeModel, pictures: Path) -> None:
    shutil.copy(pictures / "red" / "0.png", pictures / "copy.png")
    (pictures / "broken.jpg").write_bytes(b"no image")
    (pictures / "gone.png").symlink_to("nowhere")
    read = list(chosen.read(chosen.find(pictures), make_model(), MAX_PIXELS))
    assert len({picture.digest for picture in read}) == len(read) == 40
    assert not list(chosen.read(chosen.find(pictures), make_model(), MAX_PIXELS, without=read))


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(SetupError, match="has no images: files that end in"):
        chosen.find(tmp_path)


def test_where_no_image_can_be_read_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="none of its images can be read"):
        chosen.halves([], 10, tmp_path)


def test_too_few_images_are_refused_with_how_many_samples_they_suffice_for(
    make_model: MakeModel, pictures: Path
) -> None:
    read = list(chosen.read(chosen.find(pictures), make_model(), MAX_PIXELS))
    with pytest.raises(SetupError, match=r"has 40 different images that can be read, and 42 .* say --samples 20"):
        chosen.halves(read, 21, pictures)
    with pytest.raises(SetupError, match=r"add images$"):
        chosen.halves(read[:1], 1, pictures)
    calibration, held_out = chosen.halves(read, 20, pictures)
    assert [*calibration, *held_out] == read


def test_labels_are_the_folders_names_as_sorted_collections_have_them(make_model: MakeModel, pictures: Path) -> None:
    manifest = make_model(labels=("red", "green", "blue", "black/white"))
    sorted_into = pictures / sorting.folder_name("black/white")
    (pictures / "white").rename(sorted_into)
    right = chosen.labelled(pictures, manifest)
    assert len(right) == 40
    assert right[str(pictures / "red" / "3.png")] == "red"
    assert right[str(sorted_into / "3.png")] == "black/white"


def test_folders_that_are_no_classes_are_named(make_model: MakeModel, pictures: Path) -> None:
    for name in ("violet", "Red", ".cache"):
        (pictures / name).mkdir()
    with pytest.raises(SetupError, match=re.escape("like no class of the model: Red, violet; its classes are in")):
        chosen.labelled(pictures, make_model())


def test_labelled_images_have_to_be_in_folders(make_model: MakeModel, pictures: Path) -> None:
    with pytest.raises(SetupError, match="has no images in folders that are called like classes"):
        chosen.labelled(pictures / "red", make_model())
