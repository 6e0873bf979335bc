"""Both engines do the same work, and the table has the best of what was tried."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from onnx.reference import ReferenceEvaluator

from benchmarks.engines import main, rows, with_preprocessing
from mlapi.tuning import throughput
from mlapi.tuning.throughput import Plan, Speed
from model.classifier import Classifier
from model.manifest import Channels, Layout, ModelManifest
from testing.networks import COLOUR_WEIGHTS, save_network


@pytest.mark.parametrize(("layout", "shape"), [("NCHW", ["N", 3, 24, 32]), ("NHWC", ["N", 24, 32, 3])])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_the_network_with_preprocessing_answers_as_the_classifier_does(
    layout: Layout, shape: list[str | int], channels: Channels, tmp_path: Path
) -> None:
    manifest = ModelManifest(
        name="colours",
        version="1",
        height=24,
        width=32,
        resize="squash",
        crop=None,
        interpolation="bicubic",
        channels=channels,
        mean=(120.0, 110.0, 100.0),
        std=(60.0, 70.0, 80.0),
        layout=layout,
        logits=False,
        labels=("red", "green", "blue", "white"),
        folder=tmp_path,
    )
    save_network(manifest.network_path, shape, weights=COLOUR_WEIGHTS, softmax=True)
    levels = np.random.default_rng(0).integers(0, 256, (5, 1, 1, 3))
    pixels = (levels + np.zeros((5, 24, 32, 3))).astype(np.uint8)
    seen = ReferenceEvaluator(with_preprocessing(manifest)).run(None, {"pixels": pixels})
    assert np.asarray(seen)[0] == pytest.approx(Classifier.load(manifest).scores(pixels), abs=1e-4)


def test_the_table_has_the_best_batch_size_of_each_way_to_use_the_cores() -> None:
    alone = [Speed(Plan(*plan), rate, 1.0) for plan, rate in [((2, 1, 1), 8), ((2, 1, 4), 9), ((1, 2, 1), 5)]]
    decoding = [Speed(Plan(*plan), rate, 1.0) for plan, rate in [((2, 1, 1), 7), ((2, 1, 4), 6), ((1, 2, 1), 4)]]
    assert rows("an engine", alone, decoding) == [
        ("an engine", "2", "1", "9", "4", "7", "1"),
        ("an engine", "1", "2", "5", "1", "4", "1"),
    ]


def test_the_command_prints_a_table_of_the_engines_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "BATCH_SIZES", (1, 2))
    answer = CliRunner().invoke(
        main, ["--seconds", "0.05", "--rounds", "1", "--patience", "0", "--only", "OpenVINO, f32"]
    )
    assert answer.exit_code == 0, answer.output
    lines = answer.stdout.splitlines()
    assert lines[0].startswith("| engine | workers | threads of each |")
    assert lines[2].startswith("| OpenVINO, f32 |")
