"""The command `mlapi model quantize`: makes an INT8 model beside the original, and compares the two."""

import os
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

import click
import numpy as np

from mlapi.quantization import int8, pictures
from mlapi.quantization.comparison import Accuracy, Pair
from mlapi.quantization.pictures import Picture
from mlapi.quantization.report import Figures, Report
from mlapi.terminal import echo
from model import answers
from model.classifier import Classifier
from model.manifest import NETWORK, ModelManifest
from model.ml_service import load_classifier
from model.settings import ModelSettings
from runtime.errors import SetupError

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar  # click does not export it

MODELS = Path("var/models")
_SUFFIX = "-int8"
_CANDIDATES = 32  # pictures, some of which are stored with their answers

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The command line's arguments and options."""

    name: str
    images: Path
    labelled: Path | None = None
    new_name: str | None = None
    samples: int = 300


def quantize(wanted: Wanted) -> Report:
    """Make the INT8 model beside the original, atomically. Raises `SetupError` or `click.UsageError`."""
    settings = ModelSettings.from_env()
    source = find_model(wanted.name)
    target = _target(source, wanted.new_name)
    int8.check_installed()
    original = _load(source, settings)
    labels = pictures.labelled(wanted.labelled, original.manifest) if wanted.labelled else {}
    calibration, held_out = _read(wanted, original.manifest, settings)
    with _made_aside(target) as folder:
        _make(original.manifest, calibration, folder)
        pair = Pair(original, _load(folder, settings), settings.batch_size)
        _keep_answers(pair, held_out)
        accuracy = _accuracy(pair, labels, calibration, settings) if labels else None
        return _report(pair, held_out, accuracy, len(calibration), target)


def find_model(name: str) -> Path:
    """Return a model's folder; `name` is its path or its name in `MODELS`. Raises `SetupError`."""
    candidates = (MODELS / name, Path(name))
    folder = next((each for each in candidates if each.is_dir()), None)
    if folder is None:
        raise SetupError(f"there is no model {name}: neither {candidates[0]} nor {candidates[1]} is a folder")
    return folder if folder.name.strip(".") else folder.resolve()


def _target(source: Path, new_name: str | None) -> Path:
    name = f"{source.name}{_SUFFIX}" if new_name is None else new_name
    if not name.strip(".") or PurePath(name).name != name:
        raise click.UsageError(f"--as {name}: it has to be the name of a folder beside {source}.")
    target = source.with_name(name)
    if os.path.lexists(target):
        raise SetupError(f"{target} exists: move it away, or say --as NAME")
    return target


def _load(folder: Path, settings: ModelSettings) -> Classifier:
    return load_classifier(settings.model_copy(update={"model": folder}))


def _read(
    wanted: Wanted, manifest: ModelManifest, settings: ModelSettings
) -> tuple[Sequence[Picture], Sequence[Picture]]:
    warnings.filterwarnings("ignore", module="PIL")  # about damaged metadata, as in the worker
    count = 2 * wanted.samples
    readable = pictures.read(pictures.find(wanted.images), manifest, settings.max_image_pixels)
    with _progress(islice(readable, count), "Reading images", count) as progress:
        return pictures.halves(list(progress), wanted.samples, wanted.images)


@contextmanager
def _made_aside(target: Path) -> Iterator[Path]:
    """Yield a folder that becomes `target` in the end, and is removed if something fails or the command is stopped."""
    try:
        with _ended_by_sigterm(), TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as work:
            folder = Path(work) / target.name
            folder.mkdir()
            yield folder
            folder.rename(target)
    except OSError as err:
        raise SetupError(f"{target} cannot be written: {err}") from err


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Make SIGTERM act like Ctrl-C."""
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _make(manifest: ModelManifest, calibration: Sequence[Picture], folder: Path) -> None:
    with _progress(calibration, "Calibrating") as progress:
        int8.quantize(manifest, (picture.pixels for picture in progress), folder / NETWORK)
    replace(manifest, version=f"{manifest.version}{_SUFFIX}").write(folder)
    manifest.copy_sample(folder)


def _keep_answers(pair: Pair, held_out: Sequence[Picture]) -> None:
    """Store beside the version the original's answers in f32, which every processor computes correctly."""
    reference = Classifier.load(pair.original.manifest)
    answers.keep(reference, pair.quantized, np.stack([picture.pixels for picture in held_out[:_CANDIDATES]]))


def _accuracy(
    pair: Pair, labels: Mapping[str, str], calibration: Sequence[Picture], settings: ModelSettings
) -> Accuracy:
    others = pictures.read(labels, pair.original.manifest, settings.max_image_pixels, without=calibration)
    with _progress(others, "Classifying images with labels", len(labels)) as progress:
        return pair.accuracy(progress, labels)


def _report(
    pair: Pair, held_out: Sequence[Picture], accuracy: Accuracy | None, calibration_images: int, target: Path
) -> Report:
    with _progress(held_out, "Comparing") as progress:
        agreement = pair.agreement(progress)
    echo("Measuring", error=True)
    speeds = pair.images_per_s(held_out)
    original, quantized = map(_figures, (pair.original, pair.quantized), speeds)
    return Report(str(target), calibration_images, original, quantized, agreement, accuracy)


def _figures(classifier: Classifier, images_per_s: float) -> Figures:
    manifest = classifier.manifest
    size_bytes = sum(file.stat().st_size for file in manifest.network_files())
    return Figures(f"{manifest.name}@{manifest.version}", classifier.precision, size_bytes, images_per_s)


def _progress(items: Iterable[T], label: str, length: int | None = None) -> "ProgressBar[T]":
    return click.progressbar(items, length, label, show_pos=True, file=sys.stderr)
