"""An 8-bit integer network gives the same answers as the float network."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from mlapi.quantization import int8
from mlapi.quantization.int8 import QuantizationError
from mlapi.quantization.pictures import find, read
from mlapi.quantization.tests.conftest import COLOURS, MakeModel
from model.classifier import Classifier, Precision
from model.manifest import NETWORK, ModelManifest
from testing.networks import COLOUR_WEIGHTS, move_weights


def pixels(pictures: Path, manifest: ModelManifest) -> list[int8.Pixels]:
    return [picture.pixels for picture in read(find(pictures), manifest, 10**6)]


def quantized(manifest: ModelManifest, samples: list[int8.Pixels], folder: Path) -> Classifier:
    manifest.write(folder)
    int8.quantize(manifest, samples, folder / NETWORK)
    return Classifier.load(ModelManifest.load(folder))


@pytest.mark.parametrize(
    ("shape", "changes"),
    [
        (("N", 3, 24, 32), {}),
        (("N", 3, 24, 32), {"mean": (100.0, 120.0, 140.0), "std": (50.0, 60.0, 70.0)}),
        (("N", 24, 32, 3), {"layout": "NHWC"}),
        (("N", 3, 24, 32), {"channels": "BGR", "labels": ("blue", "green", "red", "white")}),
        ((1, 3, 24, 32), {}),
        ((4, 3, 24, 32), {}),
    ],
    ids=["as it comes", "normalised", "channels last", "BGR", "exported for one", "exported for four"],
)
def test_the_answers_are_nearly_the_same(
    make_model: MakeModel,
    pictures: Path,
    tmp_path: Path,
    shape: tuple[int | str, ...],
    changes: dict[str, object],
) -> None:
    manifest = make_model(shape, **changes)
    samples = pixels(pictures, manifest)
    original = Classifier.load(manifest).scores(np.stack(samples))
    other = quantized(manifest, samples[:20], tmp_path / "int8").scores(np.stack(samples))
    assert {manifest.labels[best] for best in original.argmax(axis=1)} == set(COLOURS)
    assert original.argmax(axis=1).tolist() == other.argmax(axis=1).tolist()
    assert 0 < np.abs(original - other).max() < 0.05


@pytest.mark.parametrize(("channels", "expected"), [("RGB", [1, 3, 4]), ("BGR", [5, 3, 0])])
def test_the_network_is_calibrated_with_what_it_is_served(
    make_model: MakeModel, channels: str, expected: list[float]
) -> None:
    changes = {"channels": channels, "mean": (10.0, 20.0, 30.0), "std": (10.0, 20.0, 40.0)}
    picture = np.zeros((24, 32, 3), np.uint8)
    picture[5, 7] = (20, 80, 190) if channels == "RGB" else (30, 80, 60)
    first, last = (int8.as_input(picture, make_model(layout=layout, **changes)) for layout in ("NCHW", "NHWC"))
    assert (first.shape, last.shape) == ((3, 24, 32), (24, 32, 3))
    assert first.dtype == last.dtype == np.dtype(np.float32)
    assert first[:, 5, 7].tolist() == last[5, 7].tolist() == expected


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_the_classifier_says_that_it_computes_in_integers_and_what_else(
    make_model: MakeModel, pictures: Path, tmp_path: Path, precision: Precision
) -> None:
    manifest = make_model()
    original = Classifier.load(manifest, precision=precision).precision
    made = quantized(manifest, pixels(pictures, manifest)[:4], tmp_path / "int8").manifest
    assert Classifier.load(made, precision=precision).precision == f"int8+{original}"
    assert "int8" not in original


def test_weights_are_7_bit_integers_with_a_scale_for_each_channel(
    make_model: MakeModel, pictures: Path, tmp_path: Path
) -> None:
    manifest = make_model()
    quantized(manifest, pixels(pictures, manifest)[:4], tmp_path / "int8")
    found = {each.name: each for each in onnx.load(tmp_path / "int8" / NETWORK).graph.initializer}
    assert found["weights_quantized"].data_type == onnx.TensorProto.INT8
    assert list(found["weights_scale"].dims) == [4]
    assert np.abs(numpy_helper.to_array(found["weights_quantized"]).astype(int)).max(axis=0).tolist() == [64] * 4


def save_convolutions(file: Path, count: int) -> None:
    """Save a network of unnamed convolutions, each with batch normalisation and ReLU."""
    kernels = [np.array(COLOUR_WEIGHTS).T, *[np.eye(4)] * (count - 1)]
    constants = {f"kernel{i}": kernel[..., np.newaxis, np.newaxis] for i, kernel in enumerate(kernels)}
    constants |= {"one": np.ones(4), "zero": np.zeros(4)}
    nodes = list[onnx.NodeProto]()
    for i in range(count):
        nodes += [
            helper.make_node("Conv", [f"layer{i}", f"kernel{i}"], [f"sum{i}"]),
            helper.make_node("BatchNormalization", [f"sum{i}", "one", "zero", "zero", "one"], [f"normal{i}"]),
            helper.make_node("Relu", [f"normal{i}"], [f"layer{i + 1}"]),
        ]
    nodes.append(helper.make_node("ReduceMean", [f"layer{count}"], ["answer"], axes=[2, 3], keepdims=0))
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("layer0", onnx.TensorProto.FLOAT, ["N", 3, 24, 32])],
        [helper.make_tensor_value_info("answer", onnx.TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)


def test_all_but_the_first_convolutions_become_integers_with_their_batch_normalisation(
    make_model: MakeModel, pictures: Path, tmp_path: Path
) -> None:
    manifest = make_model()
    save_convolutions(manifest.network_path, 5)
    samples = pixels(pictures, manifest)
    other = quantized(manifest, samples[:20], tmp_path / "int8")
    nodes = onnx.load(other.manifest.network_path).graph.node
    made_by = {output: node.op_type for node in nodes for output in node.output}
    kernels = [made_by.get(node.input[1]) for node in nodes if node.op_type == "Conv"]
    assert kernels == [None, None, None, "DequantizeLinear", "DequantizeLinear"]
    assert "BatchNormalization" not in made_by.values()
    original = Classifier.load(manifest).scores(np.stack(samples))
    assert other.scores(np.stack(samples)) == pytest.approx(original, abs=0.05)


@pytest.mark.parametrize("name", ["model.onnx.data", "weights.bin"])
def test_a_network_whose_weights_are_in_another_file_is_quantized(
    make_model: MakeModel, pictures: Path, tmp_path: Path, name: str
) -> None:
    manifest = make_model()
    samples = pixels(pictures, manifest)
    together = quantized(manifest, samples, tmp_path / "together").scores(np.stack(samples))
    move_weights(manifest.network_path, name)
    apart = quantized(manifest, samples, tmp_path / "apart")
    assert apart.scores(np.stack(samples)).tolist() == together.tolist()
    assert apart.manifest.network_files() == (apart.manifest.network_path,)


def test_a_quantized_network_is_not_quantized_again(make_model: MakeModel, pictures: Path, tmp_path: Path) -> None:
    manifest = make_model()
    samples = pixels(pictures, manifest)[:4]
    again = quantized(manifest, samples, tmp_path / "int8").manifest
    with pytest.raises(QuantizationError, match="is quantized already"):
        int8.quantize(again, samples, tmp_path / NETWORK)


def test_a_network_of_an_old_opset_is_refused(make_model: MakeModel, tmp_path: Path) -> None:
    manifest = make_model()
    network = onnx.load(manifest.network_path)
    network.opset_import[0].version = 12
    onnx.save(network, manifest.network_path)
    with pytest.raises(QuantizationError, match="is of ONNX opset 12; export it with opset 13 or newer"):
        int8.quantize(manifest, [], tmp_path / NETWORK)


def test_what_is_no_network_is_named(make_model: MakeModel, tmp_path: Path) -> None:
    manifest = make_model()
    manifest.network_path.write_bytes(b"no network")
    with pytest.raises(QuantizationError, match=r"colours/model\.onnx: cannot be quantized: "):
        int8.quantize(manifest, [], tmp_path / NETWORK)


def test_a_missing_package_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    int8.check_installed()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        QuantizationError, match=r"onnxruntime is missing: run `pip install 'flask-ml-api\[quantize\]'`"
    ):
        int8.check_installed()


def test_its_use_is_not_reported(make_model: MakeModel, tmp_path: Path) -> None:
    manifest, home = make_model(), tmp_path / "home"
    home.mkdir()
    program = f"""
from pathlib import Path
import numpy as np
from mlapi.quantization import int8
from model.manifest import ModelManifest
manifest = ModelManifest.load(Path({str(manifest.folder)!r}))
int8.quantize(manifest, [np.zeros((24, 32, 3), np.uint8)], Path({str(tmp_path / NETWORK)!r}))
"""
    without = {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    environment = {key: value for key, value in os.environ.items() if key not in without} | {"HOME": str(home)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=120)
    assert (tmp_path / NETWORK).stat().st_size > 0
    assert list(home.rglob("*")) == []  # if it reports, it stores there the machine's id, and what to send
