"""A batch of pixels gives a prediction for each picture, and a network that contradicts its manifest is refused."""

import sys
from dataclasses import replace
from subprocess import run
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from jobs.schema import JobFailure, Prediction
from model.classifier import Classifier, Precision, _core, _settings
from model.manifest import Channels, Layout, ModelError, ModelManifest
from runtime.errors import InferenceFailed
from testing.networks import COLOUR_WEIGHTS, Shape, extend, save_network

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
SHAPES: dict[Layout, Shape] = {"NCHW": ["N", 3, 24, 32], "NHWC": ["N", 24, 32, 3]}
NCHW, NHWC = SHAPES["NCHW"], SHAPES["NHWC"]


def flat(*colours: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return a picture of each colour: uint8, shape (N, 24, 32, 3)."""
    return np.stack([np.full((24, 32, 3), colour, np.uint8) for colour in colours])


def noise(count: int) -> NDArray[np.uint8]:
    """Return pictures whose channels differ in level: uint8, shape (N, 24, 32, 3)."""
    chance = np.random.default_rng(1)
    return (chance.random((count, 24, 32, 3)) * chance.integers(20, 256, (count, 1, 1, 3))).astype(np.uint8)


def predictions(outcomes: list[Any]) -> list[Prediction]:
    assert all(isinstance(outcome, Prediction) for outcome in outcomes)
    return outcomes


def labels(outcomes: list[Any]) -> list[str]:
    return [prediction.label for prediction in predictions(outcomes)]


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shares = np.exp(logits)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


@pytest.fixture
def classifier(manifest: ModelManifest) -> Classifier:
    """Return a classifier of red, green, blue and white."""
    save_network(manifest.network_path, NCHW)
    return Classifier.load(manifest)


@pytest.mark.parametrize("logits", [True, False])
def test_the_class_of_the_highest_score_is_the_prediction(manifest: ModelManifest, logits: bool) -> None:
    save_network(manifest.network_path, NCHW, softmax=not logits)
    classifier = Classifier.load(replace(manifest, logits=logits))
    scores = classifier.scores(noise(9))
    assert scores.shape == (9, 4)
    assert scores.sum(axis=1) == pytest.approx(np.ones(9), abs=1e-5)
    expected = [(int(row.argmax()), row.max()) for row in scores]
    assert [(each.class_index, each.score) for each in predictions(classifier.classify(noise(9)))] == expected


@pytest.mark.parametrize("classes", [2, 5, 6, 40])
def test_a_prediction_tells_of_up_to_five_classes_the_most_probable_first(
    manifest: ModelManifest, classes: int
) -> None:
    names = tuple(f"class {i}" for i in range(classes))
    save_network(manifest.network_path, NCHW, weights=np.random.default_rng(3).normal(size=(3, classes)))
    classifier = Classifier.load(replace(manifest, labels=names))
    pixels = noise(9)
    for scores, prediction in zip(classifier.scores(pixels), predictions(classifier.classify(pixels)), strict=True):
        expected = [(names[i], int(i), scores[i]) for i in np.argsort(-scores)[:5]]
        assert [tuple(each) for each in prediction.top] == expected
        assert prediction.top[0] == (prediction.label, prediction.class_index, prediction.score)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
@pytest.mark.parametrize("logits", [True, False])
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_colours_are_told_apart(
    manifest: ModelManifest, layout: Layout, channels: Channels, logits: bool, precision: Precision
) -> None:
    weights = COLOUR_WEIGHTS if channels == "RGB" else COLOUR_WEIGHTS[::-1]
    save_network(manifest.network_path, SHAPES[layout], weights=weights, softmax=not logits)
    fitting = replace(manifest, layout=layout, channels=channels, logits=logits)
    outcomes = predictions(Classifier.load(fitting, precision=precision).classify(flat(*COLOURS.values())))
    assert [(each.label, each.class_index) for each in outcomes] == [(name, i) for i, name in enumerate(COLOURS)]
    assert all(0.99 < each.score <= 1 for each in outcomes)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_pixels_are_normalised_as_the_manifest_says(
    manifest: ModelManifest, layout: Layout, channels: Channels
) -> None:
    mean, std = (103.9, 116.8, 123.7), (57.1, 58.4, 30.0)
    weights = np.random.default_rng(2).normal(size=(3, 4))
    save_network(manifest.network_path, SHAPES[layout], weights=weights)
    fitting = replace(manifest, layout=layout, channels=channels, mean=mean, std=std)
    pixels = noise(20)
    in_order = pixels if channels == "RGB" else pixels[..., ::-1]
    scores = softmax(((in_order - np.array(mean)) / np.array(std)).mean(axis=(1, 2)) @ weights)
    outcomes = predictions(Classifier.load(fitting).classify(pixels))
    assert [each.class_index for each in outcomes] == scores.argmax(axis=1).tolist()
    assert [each.score for each in outcomes] == pytest.approx(scores.max(axis=1).tolist(), abs=1e-5)
    assert len({each.class_index for each in outcomes}) > 1


@pytest.mark.parametrize("size", [1, 2, 3, 7, 33])
def test_a_picture_has_the_same_answer_in_a_batch_of_any_size(classifier: Classifier, size: int) -> None:
    pixels = noise(size)
    alone = [predictions(classifier.classify(pixels[i : i + 1]))[0] for i in range(size)]
    together = predictions(classifier.classify(pixels))
    assert [each.label for each in together] == [each.label for each in alone]
    assert [each.score for each in together] == pytest.approx([each.score for each in alone], abs=1e-6)


def test_answers_stand_in_the_order_of_the_batch(classifier: Classifier) -> None:
    order = ["white", "blue", "blue", "red", "green", "white"]
    assert labels(classifier.classify(flat(*(COLOURS[name] for name in order)))) == order


def test_no_pictures_have_no_answers(classifier: Classifier) -> None:
    assert classifier.classify(np.empty((0, 24, 32, 3), np.uint8)) == []


def test_pixels_that_are_a_view_or_read_only_are_classified(classifier: Classifier) -> None:
    pixels = flat(*COLOURS.values())[::-1]
    pixels.setflags(write=False)
    assert labels(classifier.classify(pixels)) == list(COLOURS)[::-1]


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((1, 24, 32, 3), np.float32), np.zeros((24, 32, 3), np.uint8), np.zeros((1, 32, 24, 3), np.uint8)],
)
def test_pixels_of_another_type_or_shape_are_an_error_of_the_caller(
    classifier: Classifier, pixels: NDArray[np.uint8]
) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        classifier.classify(pixels)


def test_logits_too_large_for_exp_have_a_score(manifest: ModelManifest) -> None:
    save_network(manifest.network_path, NCHW, weights=np.array(COLOUR_WEIGHTS) * 1e4)
    (prediction,) = predictions(Classifier.load(manifest).classify(flat(COLOURS["blue"])))
    assert prediction.top[0] == ("blue", 2, 1.0)


def test_a_picture_whose_answer_is_not_a_number_fails_alone(manifest: ModelManifest) -> None:
    save_network(manifest.network_path, NCHW, function="Sqrt", offset=0.5)
    red, black, white = Classifier.load(manifest).classify(flat((255, 100, 100), (0, 0, 0), (255, 255, 255)))
    assert isinstance(black, JobFailure)
    assert black.code == InferenceFailed.code
    assert "not a number" in black.message
    assert labels([red, white]) == ["white", "white"]


class BrokenEngine:
    """An engine that fails."""

    def infer(self, *_: object, **__: object) -> None:
        """Fail as OpenVINO does."""
        raise RuntimeError("Exception from src/inference/src/cpp/infer_request.cpp:223:\nout of memory\n\n")


def test_a_failure_of_the_engine_is_told_without_its_internals(manifest: ModelManifest) -> None:
    with pytest.raises(InferenceFailed, match=r"^the network failed on a batch of 1: out of memory$"):
        Classifier(manifest, BrokenEngine()).classify(flat((0, 0, 0)))


def test_a_flattening_to_one_row_does_not_keep_a_network_from_batches(manifest: ModelManifest) -> None:
    save_network(manifest.network_path, [1, 3, 24, 32], reshape=[1, 3])
    assert labels(Classifier.load(manifest).classify(flat(*COLOURS.values()))) == list(COLOURS)


@pytest.mark.parametrize("shape", [[1, 3, 24, 32], ["N", 3, "H", "W"], [None, 3, None, None]])
def test_dimensions_fixed_or_left_open_at_export_become_those_of_the_manifest(
    manifest: ModelManifest, shape: Shape
) -> None:
    save_network(manifest.network_path, shape)
    assert labels(Classifier.load(manifest).classify(flat(*COLOURS.values()))) == list(COLOURS)


@pytest.mark.parametrize(
    ("network", "changes", "complaint"),
    [
        ({"shape": ["N", 3, 299, 299]}, {}, r"input is \[N,3,299,299\]; .* 24 x 32, layout NCHW, so \[N,3,24,32\] was"),
        ({"shape": NHWC}, {}, r"input is \[N,24,32,3\]; .* layout NCHW, so \[N,3,24,32\] was"),
        ({"shape": NCHW}, {"layout": "NHWC"}, r"input is \[N,3,24,32\]; .* so \[N,24,32,3\] was"),
        ({"shape": ["N", 3, 299, 299]}, {}, r"; set size to \[299, 299\]$"),
        ({"shape": ["N", 3, "H", 299]}, {}, r"so \[N,3,24,32\] was expected$"),
        ({"shape": NHWC}, {}, "; set layout to NHWC$"),
        ({"shape": NCHW}, {"layout": "NHWC"}, "; set layout to NCHW$"),
        ({"shape": ["N", 1, 24, 32], "weights": np.ones((1, 4))}, {}, r"\[N,1,24,32\]; .*; it takes grey pictures"),
        ({"shape": ["N", 24, 32, 1], "weights": np.ones((24, 4))}, {"layout": "NHWC"}, "; it takes grey pictures"),
        ({"shape": ["N", 4, 24, 32], "weights": np.ones((4, 4))}, {}, "; it takes pictures of 4 channels, and only"),
        ({"shape": ["N", 3, 24, 32, 1]}, {}, r"input is \[N,3,24,32,1\]; .* in four dimensions"),
        ({"shape": NCHW, "inputs": 2}, {}, r"2 inputs \(pixels \[.*, unused1 \[1\]\) and 1 output \(.*one of each"),
        ({"shape": NCHW, "outputs": 2}, {}, r"1 input \(.*\) and 2 outputs \(answer0 \[N,4\], answer1 \[N,4\]\)"),
        ({"shape": NCHW}, {"labels": ("a", "b")}, r"shape \[5, 4\]; labels\.txt has 2 labels, so \[5, 2\] was"),
        ({"shape": NCHW, "reshape": [0, 3, 1], "weights": np.ones((1, 4))}, {}, r"shape \[5, 3, 4\]; .* \[5, 4\] was"),
        ({"shape": NCHW, "reshape": [1, 1, 3]}, {}, "dynamic batch dimension"),
        ({"shape": NCHW, "reshape": [1, -1, 3]}, {}, r"shape \[1, 5, 4\]; .* dynamic batch dimension"),
        ({"shape": NCHW, "batch_norm": True}, {}, "differently alone and in a batch"),
        ({"shape": NCHW, "function": "NoSuchFunction"}, {}, "not a readable ONNX network: .*NoSuchFunction"),
        ({"shape": NCHW, "function": "Sqrt", "offset": -9}, {}, "every test picture with NaN or infinity$"),
        ({"shape": NCHW, "weights": np.full((3, 4), np.nan)}, {}, "; some of its weights are no numbers: train"),
        ({"shape": NCHW, "softmax": True}, {}, "probabilities already; .* says logits = true: set it to false"),
        ({"shape": NCHW}, {"logits": False}, "not probabilities, .* says logits = false: set it to true"),
    ],
)  # fmt: skip
def test_a_network_that_does_not_fit_its_manifest_is_refused(
    manifest: ModelManifest, network: dict[str, Any], changes: dict[str, Any], complaint: str
) -> None:
    save_network(manifest.network_path, **network)
    with pytest.raises(ModelError, match=complaint) as caught:
        Classifier.load(replace(manifest, **changes))
    assert str(caught.value).startswith(f"{manifest.network_path}: ")


@pytest.mark.parametrize("logits", [True, False])
@pytest.mark.parametrize(
    "functions",
    [
        ["Sigmoid"],
        ["Sigmoid", "Flatten"],
        ["Sigmoid", ("Unsqueeze", 2)],
        ["HardSigmoid"],
        ["Neg", "Exp", ("Add", 1.0), "Reciprocal"],
        [("Mul", 0.5), "Tanh", ("Mul", 0.5), ("Add", 0.5)],
        [("Mul", 100.0), "Sigmoid"],
        [("Sub", 20.0), "Sigmoid"],
        ["Sigmoid", ("Min", 1.0), ("Max", 0.0)],
    ],
    ids=["sigmoid", "flattened", "reshaped", "hard", "by exp", "by tanh", "decided", "none", "bounded"],
)
def test_a_network_of_several_classes_at_once_is_refused_in_words(
    manifest: ModelManifest, functions: list[Any], logits: bool
) -> None:
    save_network(manifest.network_path, NCHW)
    extend(manifest.network_path, *functions)
    with pytest.raises(ModelError, match=r"each output is a probability by itself, .* a sigmoid .* neither logits"):
        Classifier.load(replace(manifest, logits=logits))


@pytest.mark.parametrize("logits", [True, False])
def test_a_network_of_percents_is_refused_in_words(manifest: ModelManifest, logits: bool) -> None:
    save_network(manifest.network_path, NCHW)
    extend(manifest.network_path, "Softmax", ("Mul", 100.0))
    with pytest.raises(
        ModelError, match=r"a softmax, .* an image's sum is 100; export the network with the softmax last"
    ):
        Classifier.load(replace(manifest, logits=logits))


@pytest.mark.parametrize(
    ("functions", "logits"),
    [(["LogSoftmax"], True), (["LogSoftmax", "Exp"], False), (["Tanh"], True), (["Relu"], True)],
)
def test_other_last_functions_are_served(manifest: ModelManifest, functions: list[Any], logits: bool) -> None:
    save_network(manifest.network_path, NCHW)
    extend(manifest.network_path, *functions)
    outcomes = Classifier.load(replace(manifest, logits=logits)).classify(flat(*COLOURS.values()))
    assert labels(outcomes) == list(COLOURS)


@pytest.mark.parametrize("reshape", [[0, -1, 1, 3], [0, 1, -1, 3], [0, -1, 3]])
def test_outputs_with_dimensions_of_one_are_served(manifest: ModelManifest, reshape: list[int]) -> None:
    save_network(manifest.network_path, NCHW, reshape=reshape)
    classifier = Classifier.load(manifest)
    assert classifier.scores(flat((255, 0, 0))).shape == (1, 4)
    assert labels(classifier.classify(flat(*COLOURS.values()))) == list(COLOURS)


@pytest.mark.parametrize(
    ("classes", "names", "words"),
    [
        (1, ("no", "yes"), "says yes or no"),
        (1, ("a", "b", "c"), "ArgMax"),
        (3, ("a,b,c",), "write one label per line"),
        (3, ("a", "b"), "a background, which many networks have first"),
        (2, ("label", "a", "b"), "'label', may be a heading"),
        (2, ("label,description", "a,x", "b,y"), "'label,description', may be a heading"),
        (2, ("__background__", "a", "b"), "no class '__background__'"),
        (2, ("a", "b", "background"), "no class 'background'"),
        (2, ("a", "b", "c"), "is a line of it a heading"),
        (2, ("a", "b", "c", "d"), r"so \[5, 4\] was expected$"),
    ],
)
def test_another_number_of_labels_is_refused_with_what_may_be_wrong(
    manifest: ModelManifest, classes: int, names: tuple[str, ...], words: str
) -> None:
    save_network(manifest.network_path, NCHW, weights=np.ones((3, classes)))
    with pytest.raises(ModelError, match=words):
        Classifier.load(replace(manifest, labels=names))


def test_a_network_of_whole_numbers_takes_pixels_as_they_are(manifest: ModelManifest) -> None:
    save_network(manifest.network_path, NCHW, kind=TensorProto.UINT8)
    with pytest.raises(ModelError, match=r"takes whole numbers \(u8\), so pixels as they are; set mean to \[0\.0, "):
        Classifier.load(manifest)
    plain = replace(manifest, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    assert labels(Classifier.load(plain).classify(flat(*COLOURS.values()))) == list(COLOURS)


def test_a_network_that_answers_with_the_class_itself_is_refused(manifest: ModelManifest) -> None:
    save_network(manifest.network_path, NCHW)
    extend(manifest.network_path, "ArgMax", "Flatten")
    with pytest.raises(ModelError, match=r"\(ArgMax\): export the network with the scores of all classes|batch"):
        Classifier.load(manifest)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_network_cut_short_is_refused(manifest: ModelManifest, share: float) -> None:
    save_network(manifest.network_path, NCHW)
    whole = manifest.network_path.read_bytes()
    manifest.network_path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError, match=r"model\.onnx: not an ONNX network but one that is cut short"):
        Classifier.load(manifest)


def test_a_file_that_is_no_network_is_refused(manifest: ModelManifest) -> None:
    manifest.network_path.write_bytes(b"not\x00a network")
    with pytest.raises(ModelError, match=r"model\.onnx: not an ONNX network but one that is cut short"):
        Classifier.load(manifest)


def test_a_warm_up_runs_every_batch_size_and_times_it(classifier: Classifier) -> None:
    seconds = classifier.warm_up(4)
    assert list(seconds) == [1, 2, 3, 4]
    assert all(0 < value < 60 for value in seconds.values())


@pytest.mark.parametrize("precision", ["f32", "bf16"])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_engine_takes_the_settings(manifest: ModelManifest, threads: int, precision: Precision) -> None:
    save_network(manifest.network_path, NCHW)
    classifier = Classifier.load(manifest, threads=threads, precision=precision)
    compiled = classifier._request.get_compiled_model()  # noqa: SLF001  # the engine knows best what it took
    assert compiled.get_property("NUM_STREAMS") == 1
    assert compiled.get_property("INFERENCE_NUM_THREADS") == threads
    assert compiled.get_property("ENABLE_CPU_PINNING") is False
    if precision == "f32":
        assert classifier.precision == "f32"


class FakeCore:
    """An engine on a processor with these capabilities."""

    def __init__(self, *capabilities: str) -> None:
        self.get_property = lambda *_: ["FP32", *capabilities]


@pytest.mark.parametrize(("capabilities", "hint"), [(("BF16",), "bf16"), (("INT8",), "f32")])
def test_the_precision_is_bf16_where_the_processor_has_it_and_it_is_not_turned_off(
    monkeypatch: pytest.MonkeyPatch, capabilities: tuple[str, ...], hint: str
) -> None:
    monkeypatch.setattr("model.classifier._core", lambda: FakeCore(*capabilities))
    assert _settings(1, "auto")["INFERENCE_PRECISION_HINT"] == hint
    assert _settings(1, "f32")["INFERENCE_PRECISION_HINT"] == "f32"


def test_the_classifier_says_in_which_precision_it_computes(manifest: ModelManifest) -> None:
    save_network(manifest.network_path, NCHW)
    native = "bf16" if "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
    assert Classifier.load(manifest, precision="auto").precision == native


def test_importing_the_preprocessing_does_not_load_the_engine() -> None:
    code = "import sys, model.preprocessing; sys.exit('openvino' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
