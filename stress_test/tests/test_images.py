"""The pictures to send: real JPEG files, all different."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from testing.errors import CannotRun
from testing.unique_images import UniqueImages, find_photos, prepare, render

DOG = Path(__file__).parents[2] / "tests" / "dog.jpeg"


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    return list(render([DOG], 8))


def decode(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_a_thousand_uploads_have_a_thousand_hashes_and_names_and_all_decode(pictures: list[bytes]) -> None:
    images = UniqueImages(pictures)
    uploads = [images.next() for _ in range(1000)]
    assert len({hashlib.sha256(upload.data).digest() for upload in uploads}) == 1000
    assert len({upload.filename for upload in uploads}) == 1000
    for upload in uploads:
        assert decode(upload.data).format == "JPEG"


def test_two_runs_with_the_same_pictures_share_no_upload(pictures: list[bytes]) -> None:
    first, second = UniqueImages(pictures), UniqueImages(pictures)
    assert {first.next().data for _ in range(100)}.isdisjoint(second.next().data for _ in range(100))


def test_the_serial_changes_no_pixel(pictures: list[bytes]) -> None:
    assert decode(UniqueImages(pictures).next().data).tobytes() == decode(pictures[0]).tobytes()


def test_the_prepared_pictures_differ_in_their_pixels_and_have_the_size_of_photos(pictures: list[bytes]) -> None:
    decoded = [decode(picture) for picture in pictures]
    assert len({image.tobytes() for image in decoded}) == len(pictures)
    assert all(400 <= max(image.size) <= 800 and image.mode == "RGB" for image in decoded)
    assert all(10_000 < len(picture) < 200_000 for picture in pictures)


def test_noise_alone_makes_pictures_of_a_plain_photo_differ(tmp_path: Path) -> None:
    Image.new("RGB", (500, 500), "teal").save(tmp_path / "plain.png")
    arrays = [np.asarray(decode(picture).resize((64, 64))) for picture in render([tmp_path / "plain.png"], 3)]
    assert not np.array_equal(arrays[0], arrays[1])
    assert not np.array_equal(arrays[1], arrays[2])


def test_the_same_seed_gives_the_same_pictures_and_another_seed_others(pictures: list[bytes]) -> None:
    assert list(render([DOG], 8)) == pictures
    assert set(render([DOG], 8, seed=1)).isdisjoint(pictures)


@pytest.mark.parametrize(("mode", "ending"), [("L", "png"), ("P", "gif"), ("RGBA", "png"), ("CMYK", "jpg")])
def test_photos_of_every_colour_mode_can_be_used(tmp_path: Path, mode: str, ending: str) -> None:
    Image.new(mode, (60, 900)).save(tmp_path / f"photo.{ending}")
    [picture] = render(find_photos(tmp_path), 1)
    assert decode(picture).mode == "RGB"


def test_every_photo_of_a_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name, colour in [("a.png", "red"), ("b.JPG", "lime"), ("below/c.jpeg", "blue")]:
        Image.new("RGB", (500, 500), colour).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no photo")
    means = [np.asarray(decode(picture)).mean(axis=(0, 1)) for picture in render(find_photos(tmp_path), 3)]
    assert {int(mean.argmax()) for mean in means} == {0, 1, 2}


def test_a_folder_without_photos_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match=f"{tmp_path} has no photos"):
        prepare(tmp_path)


def test_a_photo_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(DOG.read_bytes()[:2000])
    with pytest.raises(CannotRun, match=r"broken\.jpg cannot be read"):
        prepare(tmp_path)
