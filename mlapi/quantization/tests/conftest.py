"""A model of four colours, and pictures of them."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from model.manifest import ModelManifest
from testing.networks import save_network

COLOURS = {"red": (220, 20, 30), "green": (20, 200, 40), "blue": (30, 20, 230), "white": (240, 250, 245)}

MakeModel = Callable[..., ModelManifest]


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """Make the folder of a model that distinguishes four colours, with a test's changes to its manifest."""

    def make(shape: tuple[int | str, ...] = ("N", 3, 24, 32), **changes: object) -> ModelManifest:
        folder = tmp_path / "models" / "colours"
        manifest = ModelManifest(
            name="colours",
            version="7",
            height=24,
            width=32,
            resize="crop",
            crop=0.875,
            interpolation="bicubic",
            channels="RGB",
            mean=(127.5, 127.5, 127.5),
            std=(127.5, 127.5, 127.5),
            layout="NCHW",
            logits=True,
            labels=tuple(COLOURS),
            folder=folder,
        )
        manifest = replace(manifest, **changes)  # type: ignore[arg-type]  # a test names the manifest's own fields
        manifest.write(folder)
        save_network(manifest.network_path, shape)
        return manifest

    return make


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Make a folder with a folder for each colour, each with ten pictures, all of them different."""
    chance = random.Random(0)  # noqa: S311  # makes pictures, no secret
    for name, colour in COLOURS.items():
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for number in range(10):
            picture = Image.new("RGB", (64, 48), tuple(level + chance.randint(-15, 15) for level in colour))
            corner = chance.randint(0, 30), chance.randint(0, 20)
            ImageDraw.Draw(picture).rectangle((*corner, corner[0] + 12, corner[1] + 10), fill=(90, 110, 100))
            picture.save(folder / f"{number}.png")
    return tmp_path / "pictures"
