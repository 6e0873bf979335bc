"""The description of a network in its model folder: reads and writes `model.toml` and `labels.txt`."""

import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from model import files, labels, scale
from runtime.errors import SetupError
from runtime.validation import said

if sys.version_info >= (3, 11):
    import tomllib
else:
    # The ignore is unused on some Python versions, so which of the two codes applies depends on the Python that checks.
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

NETWORK, MANIFEST, LABELS = "model.onnx", "model.toml", "labels.txt"

Resize = Literal["crop", "squash"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box"]
Channels = Literal["RGB", "BGR"]
Layout = Literal["NCHW", "NHWC"]


class ModelError(SetupError):
    """A model folder cannot be served. The message names the file and what to change in it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture file beside the network, and the class that the network assigns to it."""

    file: str
    label: str


@dataclass(frozen=True, slots=True)
class ModelManifest:
    """How to feed a network and how to read its answer.

    `height` and `width` are the network's input in pixels. `crop` is the share of the largest centred box that is kept,
    None if the whole picture is squashed. `mean` and `std` are on the 0..255 scale, in the order of `channels`.
    `logits` is False if the network ends in a softmax. `labels` are in the order of the network's outputs. If there is
    a `sample`, a network that answers it wrongly is not served. Manifests are equal regardless of their `folder`.
    """

    name: str
    version: str
    height: int
    width: int
    resize: Resize
    crop: float | None
    interpolation: Interpolation
    channels: Channels
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    layout: Layout
    logits: bool
    labels: tuple[str, ...]
    folder: Path = field(compare=False)
    sample: Sample | None = None

    @property
    def network_path(self) -> Path:
        """The ONNX file."""
        return self.folder / NETWORK

    def network_files(self) -> tuple[Path, ...]:
        """Return the ONNX file and the files of its weights beside it. Raises `ModelError`, `OSError`."""
        names = sorted(set(_names_of_weights(self.network_path.read_bytes())))
        if outside := next((name for name in names if Path(name).is_absolute() or ".." in Path(name).parts), None):
            raise ModelError(f"{self.network_path}: its weights are in {outside!r}, which is not in its folder")
        return (self.network_path, *(self.folder / name for name in names))

    @classmethod
    def load(cls, folder: Path) -> "ModelManifest":
        """Read the manifest in `folder`. Raises `ModelError` if files are missing or wrong."""
        toml, names = _read(folder / MANIFEST), _read(folder / LABELS)
        _check_exists(folder / NETWORK)
        return cls._parse(toml, names, folder)

    def write(self, folder: Path) -> None:
        """Write `model.toml` and `labels.txt`, from which `load` returns an equal manifest.

        The folder is created if necessary; the caller adds the network. Raises `ModelError`, and writes nothing, if
        `load` would refuse the files or read them differently.
        """
        toml, names = self.to_toml(), "".join(f"{label}\n" for label in self.labels)
        if self._parse(toml, names, folder) != self:
            raise ModelError(f"{folder}: a label must not start or end with a space, nor be of several lines")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).write_text(toml, encoding="utf-8")
        (folder / LABELS).write_text(names, encoding="utf-8")

    def copy_sample(self, folder: Path) -> None:
        """Copy the sample, if there is one, to another model's folder."""
        if self.sample:
            shutil.copyfile(self.folder / self.sample.file, folder / self.sample.file)

    def to_toml(self) -> str:
        """Return the text of `model.toml`."""
        crop = [] if self.crop is None else [_line("crop", self.crop)]
        sample = (
            ["\n[sample]", _line("file", self.sample.file), _line("label", self.sample.label)] if self.sample else []
        )
        lines = [
            _line("name", self.name),
            _line("version", self.version),
            "\n[input]",
            _line("size", (self.height, self.width)),
            _line("resize", self.resize),
            *crop,
            _line("interpolation", self.interpolation),
            _line("channels", self.channels),
            _line("mean", self.mean),
            _line("std", self.std),
            _line("layout", self.layout),
            "\n[output]",
            _line("logits", self.logits),
            *sample,
        ]
        return "\n".join(lines) + "\n"

    @classmethod
    def _parse(cls, toml: str, names: str, folder: Path) -> "ModelManifest":
        keys = _parse_toml(toml, folder / MANIFEST)
        source = keys.input
        named = _parse_labels(names, folder / LABELS)
        if keys.sample and keys.sample.label not in named:
            raise ModelError(f"{folder / MANIFEST}: sample.label is {keys.sample.label!r}, which is not in {LABELS}")
        return cls(
            name=keys.name,
            version=keys.version,
            height=source.size[0],
            width=source.size[1],
            resize=source.resize,
            crop=source.crop,
            interpolation=source.interpolation,
            channels=source.channels,
            mean=source.mean,
            std=source.std,
            layout=source.layout,
            logits=keys.output.logits,
            labels=named,
            folder=folder,
            sample=Sample(keys.sample.file, keys.sample.label) if keys.sample else None,
        )


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# Strict, so that "224" or true is refused as a number. The tuples themselves are not: TOML has lists only.
_Text = Annotated[str, Field(strict=True, pattern=r"^[^\x00-\x1f\x7f]+$")]
_Name = Annotated[_Text, Field(max_length=100), AfterValidator(lambda name: _reachable(name))]
_Pixels = Annotated[int, Field(strict=True, gt=0)]
_Level = Annotated[float, Field(strict=True)]
_Spread = Annotated[float, Field(strict=True, gt=0)]
_Share = Annotated[float, Field(strict=True, gt=0, le=1)]


# These characters have another meaning in the paths of /v1/models and /v2/models, in `name@version`, or on a command
# line.
_NOT_IN_NAMES = re.compile(r"[/\\@?#%]|^-|^\s|\s$|^\.{1,2}$")


def _reachable(name: str) -> str:
    """Return a model's or version's name if requests can use it. Raises `ValueError`."""
    found = _NOT_IN_NAMES.search(name)
    if found or not name.isprintable() or name != unicodedata.normalize("NFC", name):
        what = repr(found[0]) if found else "characters that are invisible or can be written in two ways"
        raise ValueError(
            f"{json.dumps(name, ensure_ascii=False)} has {what}, so it could not be asked for by that name; use"
            ' letters, digits, "-", "_" and "."'
        )
    return name


class _Input(_Table):
    size: tuple[_Pixels, _Pixels]
    resize: Resize
    crop: _Share | None = None
    interpolation: Interpolation
    channels: Channels
    mean: tuple[_Level, _Level, _Level]
    std: tuple[_Spread, _Spread, _Spread]
    layout: Layout

    @model_validator(mode="after")
    def _crop_goes_with_resize(self) -> "_Input":
        if self.resize == "crop" and self.crop is None:
            raise ValueError('resize = "crop" needs the key crop, the share to keep, such as 0.875 or 1.0')
        if self.resize == "squash" and self.crop is not None:
            raise ValueError('resize = "squash" takes the whole picture: remove the key crop')
        return self

    @model_validator(mode="after")
    def _mean_and_std_are_of_pixels(self) -> "_Input":
        if meant := scale.meant(self.mean, self.std):
            raise ValueError(meant)
        return self


class _Output(_Table):
    logits: Annotated[bool, Field(strict=True)]


class _SampleKeys(_Table):
    file: Annotated[str, Field(strict=True, pattern=r"^[^/\x00-\x1f\x7f]+$")]  # only in the folder
    label: _Text


class _Keys(_Table):
    name: _Name
    version: _Name
    input: _Input
    output: _Output
    sample: _SampleKeys | None = None


def _names_of_weights(network: bytes) -> Iterator[str]:
    """Yield the names of the files that hold tensors of an ONNX network.

    ONNX stores them as TensorProto.external_data, pairs of a key and a value: here, "location" and the file's name,
    each after its field number and length.
    """
    for found in re.finditer(rb"\x0a\x08location\x12([\x80-\xff]?[\x00-\x7f])", network):
        low, high = found[1][0] & 0x7F, found[1][1:]
        length = low | (high[0] << 7 if high else 0)
        yield network[found.end() : found.end() + length].decode(errors="replace")


def _check_exists(network: Path) -> None:
    if network.is_file():
        return
    others = sorted(file.name for file in network.parent.glob("*.onnx") if file != network)
    hint = f"; {', '.join(others)} is there: call it {network.name}" if others else ""
    found = "is a folder" if network.is_dir() else "not found"
    raise ModelError(f"{network}: {found}; a model folder needs the network as an ONNX file{hint}")


def _read(path: Path) -> str:
    try:
        if instead := files.instead_of_data(path):
            raise ModelError(f"{path}: is {instead}")
        # -sig: Windows editors begin a UTF-8 file with a byte order mark that would become part of the first label.
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as err:
        raise ModelError(f"{path}: not found; a model folder needs {NETWORK}, {MANIFEST} and {LABELS}") from err
    except OSError as err:
        raise ModelError(f"{path}: cannot be read: {err.strerror}") from err
    except UnicodeDecodeError as err:
        raise ModelError(f"{path}: byte {err.start} is not UTF-8; save the file as UTF-8") from err


def _parse_toml(text: str, path: Path) -> _Keys:
    try:
        return _Keys.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as err:
        raise ModelError(f"{path}: not TOML: {err}") from err
    except ValidationError as err:
        problems = "; ".join(_explain(dict(problem)) for problem in err.errors())
        raise ModelError(f"{path}: {problems}") from err


def _explain(problem: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] == "extra_forbidden":
        return f"{key} is not a key of this file"
    if problem["type"] == "value_error":
        return f"{key}: {said(problem)}"
    expected = said(problem).replace("Input should", "should")
    return f"{key} is {json.dumps(problem['input'], default=str)}: {expected}"


def _parse_labels(text: str, path: Path) -> tuple[str, ...]:
    try:
        return labels.parse(text)
    except ValueError as err:
        raise ModelError(f"{path}: {err}") from err


def _line(key: str, value: str | bool | float | tuple[float, ...]) -> str:
    # JSON writes these types as TOML does.
    return f"{key} = {json.dumps(value, ensure_ascii=False)}"
