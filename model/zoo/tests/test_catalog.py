"""Models are added by name: once, whole, and never over something else."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from model.manifest import ModelManifest
from model.zoo import ZooError, add, catalog, efficientnet_lite0, names

NAME = "efficientnet-lite0"


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where EfficientNet-Lite0 was built, build by build."""
    folders = []
    build = efficientnet_lite0.build

    def counted(folder: Path, weights: str | None = None) -> None:
        folders.append(folder)
        build(folder, weights)

    monkeypatch.setattr(efficientnet_lite0, "build", counted)
    return folders


def fail(folder: Path, _weights: str | None = None) -> None:
    (folder / "model.onnx").write_bytes(b"half")
    raise ZooError("no more weights")


def everything_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_names_are_listed() -> None:
    assert names() == ["efficientnet-lite0", "resnet50"]


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="no model named 'vgg16'; there are: efficientnet-lite0, resnet50"):
        add("vgg16", tmp_path)


def test_an_added_model_is_a_folder_with_four_files(tmp_path: Path) -> None:
    said: list[str] = []
    folder = add(NAME, tmp_path / "new" / "models", echo=said.append)
    assert folder == tmp_path / "new" / "models" / NAME
    assert everything_in(folder) == ["apple.png", "labels.txt", "model.onnx", "model.toml"]
    assert everything_in(folder.parent) == [NAME]
    assert said == [f"Making {NAME} in {folder}"]
    manifest = ModelManifest.load(folder)
    assert (manifest.name, manifest.version) == (NAME, "1")
    assert len(manifest.labels) == 1000
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777, "the service may run as another user"


def test_a_model_that_is_there_is_not_made_again(tmp_path: Path, builds: list[Path]) -> None:
    assert add(NAME, tmp_path) == add(NAME, tmp_path)
    assert len(builds) == 1


def test_two_that_add_the_same_model_at_once_both_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both_have_built = Barrier(2, timeout=60)
    build = efficientnet_lite0.build

    def build_together(folder: Path, weights: str | None = None) -> None:
        build(folder, weights)
        both_have_built.wait()

    monkeypatch.setattr(efficientnet_lite0, "build", build_together)
    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(lambda _: add(NAME, tmp_path), range(2))) == {tmp_path / NAME}
    assert everything_in(tmp_path) == [NAME]
    assert ModelManifest.load(tmp_path / NAME).version == "1"


def test_a_build_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet_lite0, "build", fail)
    with pytest.raises(ZooError, match="no more weights"):
        add(NAME, tmp_path)
    assert everything_in(tmp_path) == []


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path, builds: list[Path]) -> None:
    mine = tmp_path / NAME / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("years of work")
    with pytest.raises(ZooError, match=r"holds no complete model .*: move it away"):
        add(NAME, tmp_path)
    assert mine.read_text() == "years of work"
    assert builds == []


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    assert ModelManifest.load(add(NAME, tmp_path)).version == "1"


def test_a_model_of_another_version_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(NAME, tmp_path)
    monkeypatch.setattr(efficientnet_lite0, "REVISION", "2")
    with pytest.raises(ZooError, match="another version of efficientnet-lite0, 1: move it away"):
        add(NAME, tmp_path)


def test_a_missing_package_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ZooError, match=r"keras is missing: run `pip install keras onnx onnxscript torch`"):
        add("resnet50", tmp_path)
    assert everything_in(tmp_path) == []


def test_a_models_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    with pytest.raises(ZooError, match=r"cannot write .*models"):
        add(NAME, tmp_path / "models")


def test_importing_the_zoo_imports_no_heavy_package() -> None:
    heavy = "{'numpy', 'onnx', 'keras', 'torch', 'openvino', 'PIL'}"
    program = f"import sys, model.zoo; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_every_recipe_is_one(tmp_path: Path) -> None:
    for name, recipe in catalog.RECIPES.items():
        assert name == recipe.NAME
        assert recipe.version() == recipe.REVISION
        assert recipe.NEEDS
    with pytest.raises(ZooError, match="cannot read the weights"):
        catalog.RECIPES["resnet50"].version(str(tmp_path / "absent.h5"))
