"""The table of a shadow's cost, and the version that it is measured with."""

from dataclasses import replace
from pathlib import Path

from benchmarks.load import Cell
from benchmarks.shadow import rows, second_version
from model.manifest import ModelManifest, Sample
from model.settings import ModelSettings

DEFAULT = Path(__file__).parents[2] / "var/models/efficientnet-lite0"


def test_the_table_has_the_medians_and_those_of_the_rounds_ratios() -> None:
    without = [Cell(30.0, 10.0, 20.0, p99_ms, 1) for p99_ms in (40.0, 50.0, 400.0)]
    beside = [Cell(30.0, 11.0, 20.0, p99_ms, 0) for p99_ms in (44.0, 50.0, 40.0)]
    assert rows(without, beside, 10) == [
        ("none", "30.0", "10.0", "20.0", "50.0", "3"),
        ("10 %", "30.0", "11.0", "20.0", "44.0", "0"),
        ("ratio", "1.00", "1.10", "1.00", "1.00", ""),
    ]


def test_the_second_version_is_the_same_network_under_another_number(tmp_path: Path) -> None:
    first = tmp_path / "first"
    manifest = replace(ModelManifest.load(DEFAULT), folder=first, sample=Sample("a.png", "Eskimo_dog"))
    manifest.write(first)
    (first / "a.png").write_bytes(b"a picture")
    (first / "model.onnx").write_bytes(b"a network")
    folder = second_version(tmp_path / "second", ModelSettings(model=first))
    second = ModelManifest.load(folder)
    assert second != manifest
    assert replace(second, version=manifest.version) == manifest
    assert ((folder / "model.onnx").read_bytes(), (folder / "a.png").read_bytes()) == (b"a network", b"a picture")
