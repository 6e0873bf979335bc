"""The models that can be made by name, and the function that makes them."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from model.manifest import ModelError, ModelManifest
from model.zoo import efficientnet_lite0, resnet50
from model.zoo.errors import ZooError

Echo = Callable[[str], None]


class Recipe(Protocol):
    """A module that makes one model.

    `NEEDS` names the packages to install for it; `REVISION` changes with anything that changes its model's answers.
    """

    NAME: str
    NEEDS: str
    REVISION: str

    def build(self, folder: Path, weights: str | None = None) -> None:
        """Write `model.onnx`, `model.toml`, `labels.txt` and any sample into a folder that exists and is empty."""

    def version(self, weights: str | None = None) -> str:
        """Return the version that `build` writes to the manifest for these weights."""


RECIPES: dict[str, Recipe] = {recipe.NAME: recipe for recipe in (efficientnet_lite0, resnet50)}


def names() -> list[str]:
    """Return the names that `add` accepts."""
    return list(RECIPES)


def add(name: str, models_dir: Path, *, weights: str | None = None, echo: Echo = lambda _: None) -> Path:
    """Make the model `name` in `models_dir`, unless it is there, and return its folder, `models_dir / name`.

    `weights` is the path of a weights file, instead of the model's own source. The folder appears whole or not at all,
    even if several processes add the same model. A folder that holds something else is left alone. Raises `ZooError`,
    which says what to do.
    """
    recipe = _recipe(name)
    folder = models_dir / name
    try:
        if not _is_taken(folder):
            _make(recipe, folder, weights, echo)
        return _verified(folder, recipe, weights)
    except ModuleNotFoundError as err:
        raise ZooError(f"to make {name}, {err.name} is missing: run `pip install {recipe.NEEDS}`") from err
    except OSError as err:
        raise ZooError(f"cannot write {folder}: {err}") from err


def _recipe(name: str) -> Recipe:
    if name not in RECIPES:
        raise ZooError(f"there is no model named {name!r}; there are: {', '.join(names())}")
    return RECIPES[name]


def _is_taken(folder: Path) -> bool:
    return folder.exists() and any(folder.iterdir())


def _make(recipe: Recipe, folder: Path, weights: str | None, echo: Echo) -> None:
    echo(f"Making {recipe.NAME} in {folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{recipe.NAME}-") as work:
        built = Path(work) / recipe.NAME
        built.mkdir()
        recipe.build(built, weights)
        _move(built, folder)


def _move(built: Path, folder: Path) -> None:
    try:
        built.rename(folder)
    except OSError:
        if not _is_taken(folder):
            raise
        # Another process was faster; `add` checks its result like any folder that already existed.


def _verified(folder: Path, recipe: Recipe, weights: str | None) -> Path:
    """Return `folder` if it holds what `recipe` makes; with no weights named, any weights will do."""
    try:
        found = ModelManifest.load(folder).version
    except ModelError as err:
        raise ZooError(f"{folder} holds no complete model ({err}): move it away and try again") from err
    revision = found.partition("-")[0]
    if revision != recipe.REVISION or (weights is not None and found != recipe.version(weights)):
        raise ZooError(f"{folder} holds another version of {recipe.NAME}, {found}: move it away and try again")
    return folder
