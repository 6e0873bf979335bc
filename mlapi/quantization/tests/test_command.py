"""`mlapi model quantize`: its model, its report, and what remains after a failure."""

import json
import os
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks.variations import vary
from jobs.schema import Prediction
from mlapi import cli
from mlapi.collection.files import Files
from mlapi.quantization import command, int8
from mlapi.quantization.comparison import Accuracy, Agreement
from mlapi.quantization.report import Figures, Report
from mlapi.quantization.tests.conftest import MakeModel
from model.manifest import ModelManifest
from model.ml_service import load_classifier, predict
from model.settings import ModelSettings
from model.zoo import efficientnet_lite0


def quantize(*words: object) -> Result:
    return CliRunner().invoke(cli.cli, ["model", "quantize", *map(str, words)])


def failure(monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[int, str]:
    """Run the command as the shell does, and return the exit status and the message."""
    monkeypatch.setattr("sys.argv", ["mlapi", "model", "quantize", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return (1, ended.value.code) if isinstance(ended.value.code, str) else (int(ended.value.code or 0), "")


def models(manifest: ModelManifest) -> list[str]:
    """Return the contents of the folder of models, including hidden files."""
    return sorted(path.name for path in manifest.folder.parent.iterdir())


def test_the_new_model_is_beside_the_original_and_can_be_served(make_model: MakeModel, pictures: Path) -> None:
    manifest = make_model()
    original = manifest.network_path.read_bytes()
    done = quantize(manifest.folder, "--images", pictures, "--labelled", pictures, "--samples", 15)
    assert done.exit_code == 0, done.output
    made = manifest.folder.with_name("colours-int8")
    assert models(manifest) == ["colours", "colours-int8"]
    assert manifest.network_path.read_bytes() == original
    assert sorted(path.name for path in made.iterdir()) == ["answers.npz", "labels.txt", "model.onnx", "model.toml"]
    assert (ModelManifest.load(made).name, ModelManifest.load(made).version) == ("colours", "7-int8")
    assert CliRunner().invoke(cli.cli, ["model", "check", str(made)]).exit_code == 0
    assert "| same class, of 15 other images |  | 15 (100.0 %) |" in done.stdout
    assert "| right, of 25 images with labels | 25 (100.0 %) | 25 (100.0 %) |" in done.stdout  # 15 were calibrated with
    assert f"{made} is ready, and the original as it was: MODEL={made} make run" in done.stdout
    assert "Calibrating" in done.stderr


def test_the_figures_are_told_as_json_too(make_model: MakeModel, pictures: Path) -> None:
    manifest = make_model()
    done = quantize(manifest.folder, "--images", pictures, "--samples", 20, "--as", "small", "--json")
    told = json.loads(done.stdout)
    made = manifest.folder.with_name("small")
    assert told["folder"] == str(made)
    assert (told["calibration_images"], told["agreement"]["images"], told["accuracy"]) == (20, 20, None)
    assert 0 < told["agreement"]["largest_score_difference"] < 0.05
    assert told["quantized"]["bytes"] == (made / "model.onnx").stat().st_size
    assert min(told["original"]["images_per_s"], told["quantized"]["images_per_s"]) > 0
    assert (told["original"]["model"], told["quantized"]["model"]) == ("colours@7", "colours@7-int8")


def test_a_model_is_named_by_its_folder_in_var_models_or_by_its_path(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = make_model().folder
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "MODELS", Path("models"))
    assert command.find_model("colours") == Path("models/colours")
    assert command.find_model("models/colours") == Path("models/colours")
    monkeypatch.chdir(folder)
    assert command.find_model(".") == folder


def test_what_exists_already_is_left_alone(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, pictures: Path
) -> None:
    manifest = make_model()
    taken = manifest.folder.with_name("colours-int8")
    taken.mkdir()
    assert failure(monkeypatch, manifest.folder, "--images", pictures) == (
        1,
        f"mlapi: {taken} exists: move it away, or say --as NAME",
    )
    assert list(taken.iterdir()) == []


def test_a_model_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch, pictures: Path) -> None:
    status, said = failure(monkeypatch, "colors", "--images", pictures)
    assert (status, said) == (1, "mlapi: there is no model colors: neither var/models/colors nor colors is a folder")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/ab"])
def test_a_new_name_that_is_no_name_is_a_wrong_command_line(make_model: MakeModel, pictures: Path, name: str) -> None:
    done = quantize(make_model().folder, "--images", pictures, "--as", name)
    assert (done.exit_code, "has to be the name of a folder" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--images", "{pictures}"], "add images, or say --samples 20"),
        (["--images", "{empty}"], "has no images"),
        (["--images", "{broken}"], "none of its images can be read"),
        (["--images", "{pictures}", "--labelled", "{broken}", "--samples", "2"], "no images in folders"),
        (["--images", "{pictures}", "--labelled", "{unknown}", "--samples", "2"], "like no class of the model: violet"),
    ],
)
def test_unsuitable_images_are_a_sentence_and_leave_nothing(
    make_model: MakeModel,
    monkeypatch: pytest.MonkeyPatch,
    pictures: Path,
    tmp_path: Path,
    words: list[str],
    reason: str,
) -> None:
    folders = {name: tmp_path / name for name in ("empty", "broken", "unknown")}
    for folder in folders.values():
        folder.mkdir()
    (folders["broken"] / "broken.jpg").write_bytes(b"no image")
    shutil.copytree(pictures / "red", folders["unknown"] / "violet")
    manifest = make_model()
    named = [word.format(pictures=pictures, **folders) for word in words]
    status, said = failure(monkeypatch, manifest.folder, *named)
    assert (status, reason in said) == (1, True), said
    assert models(manifest) == ["colours"]


def test_a_network_that_cannot_be_served_afterwards_is_not_kept(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, pictures: Path
) -> None:
    def spoil(_manifest: ModelManifest, _pictures: Iterable[int8.Pixels], file: Path) -> None:
        file.write_bytes(b"half")

    manifest = make_model()
    monkeypatch.setattr(int8, "quantize", spoil)
    status, said = failure(monkeypatch, manifest.folder, "--images", pictures, "--samples", 4)
    assert (status, "not an ONNX network but a text" in said) == (1, True)
    assert models(manifest) == ["colours"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_whoever_ends_it_finds_nothing_half_made(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, pictures: Path, number: signal.Signals
) -> None:
    manifest = make_model()

    def end(_manifest: ModelManifest, _pictures: Iterable[int8.Pixels], file: Path) -> None:
        file.write_bytes(b"half")
        assert models(manifest) != ["colours"]
        os.kill(os.getpid(), number)

    monkeypatch.setattr(int8, "quantize", end)
    former = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell withholds from background jobs
    try:
        done = quantize(manifest.folder, "--images", pictures, "--samples", 4)
    finally:
        signal.signal(signal.SIGINT, former)
    assert (done.exit_code, "Aborted!" in done.stderr) == (1, True)
    assert models(manifest) == ["colours"]


def test_a_folder_that_cannot_be_made_is_a_sentence(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, pictures: Path
) -> None:
    too_long = "x" * 300  # which not even root may write
    words = (make_model().folder, "--images", pictures, "--samples", 4, "--as", too_long)
    status, said = failure(monkeypatch, *words)
    assert (status, "cannot be written" in said) == (1, True), said


def test_a_model_that_is_no_faster_is_not_recommended() -> None:
    slow, fast = (Figures("m", "f32", 10**6, speed) for speed in (10.0, 20.0))
    agreement = Agreement(4, 3, 0, 0, 0.25)
    assert "no faster than the original" in str(Report("m-int8", 4, fast, slow, agreement, None))
    faster = str(Report("m-int8", 4, slow, fast, agreement, Accuracy(0, 0, 0)))
    assert "no faster" not in faster
    assert "| same class, of 4 other images |  | 3 (75.0 %) |" in faster
    assert "| right, of 0 images with labels | - | - |" in faster


def test_the_default_model_in_int8_still_knows_a_dog(tmp_path: Path, dog: bytes) -> None:
    folder, photos = tmp_path / "efficientnet-lite0", tmp_path / "photos"
    folder.mkdir()
    photos.mkdir()
    efficientnet_lite0.build(folder)
    for number, photo in enumerate(vary(None, 60, (300, 500))):
        (photos / f"{number}.jpg").write_bytes(photo)
    told = json.loads(quantize(folder, "--images", photos, "--samples", 30, "--json").stdout)
    assert told["agreement"]["clear_same_class"] >= 0.9 * told["agreement"]["clear_images"] > 0
    assert told["quantized"]["bytes"] < 0.3 * told["original"]["bytes"]
    settings = ModelSettings(model=Path(told["folder"]))
    (photos / "dog").write_bytes(dog)
    [outcome] = predict([str(photos / "dog")], Files(10**7), load_classifier(settings), settings.max_image_pixels)
    assert isinstance(outcome, Prediction)
    assert outcome.label == "Eskimo_dog"
