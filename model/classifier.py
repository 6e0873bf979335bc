"""Turns pixels into predictions: a network on OpenVINO. Only this file and int8.py use the inference engine."""

from collections.abc import Sequence
from functools import cache
from statistics import median
from time import perf_counter
from typing import Literal

import numpy as np
import openvino as ov  # type: ignore[import-untyped]  # its stubs lack the marker that PEP 561 asks for
from numpy.typing import NDArray
from openvino.preprocess import PrePostProcessor  # type: ignore[import-untyped]

from jobs.schema import TOP_CLASSES, ClassScore, JobFailure, Outcome, Prediction
from model import files, int8, outputs
from model.manifest import LABELS, MANIFEST, NETWORK, ModelError, ModelManifest
from runtime.errors import InferenceFailed

Precision = Literal["auto", "f32", "bf16"]

_TIMED_ROUNDS = 3


class Classifier:
    """A network ready to run on the CPU. For one caller at a time; every worker process has its own."""

    def __init__(self, manifest: ModelManifest, request: ov.InferRequest, *, is_quantized: bool = False) -> None:
        self.manifest = manifest
        self._request = request
        self._is_quantized = is_quantized

    @classmethod
    def load(cls, manifest: ModelManifest, *, threads: int = 1, precision: Precision = "f32") -> "Classifier":
        """Compile the manifest's network for `threads` threads, and check that network and manifest match.

        `precision` is the arithmetic inside the network; "auto" is bf16 if the processor has it, else f32. Pixels go in
        as uint8 and answers come out as float32 either way.

        Batches of any size run in one compiled network. One per batch size was 2 to 20 % faster with a light network
        whose batch sizes vary, and within 4 % with one like ResNet-50, of which each held 170 to 230 MB.

        Raises `ModelError` if the network cannot be read or run, or contradicts the manifest.
        """
        network = _read(manifest)
        _check_integers(network, manifest)
        try:
            compiled = _core().compile_model(
                _with_preprocessing(network, manifest), "CPU", _settings(threads, precision)
            )
            classifier = cls(manifest, compiled.create_infer_request(), is_quantized=int8.is_quantized(network))
        except RuntimeError as err:
            raise ModelError(f"{manifest.network_path}: cannot be compiled: {_reason(err)}") from err
        classifier._check_answers(network)
        return classifier

    @property
    def precision(self) -> str:
        """The arithmetic inside the network: "f32" or "bf16", after "int8+" if it is quantized."""
        floats = str(self._request.get_compiled_model().get_property("INFERENCE_PRECISION_HINT").to_string())
        return f"int8+{floats}" if self._is_quantized else floats

    def classify(self, pixels: NDArray[np.uint8]) -> list[Outcome]:
        """Return each picture's most probable classes, or why it has none, in the order of the batch.

        `pixels` is uint8 RGB of shape (N, height, width, 3), any N. Raises `InferenceFailed` if the engine fails on the
        batch as a whole.
        """
        return [self._outcome(answer) for answer in self._run(pixels)] if len(pixels) else []

    def scores(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return each picture's score of every class, shape (N, classes), of `pixels` as `classify` takes them."""
        return np.stack([self._scores(answer) for answer in self._run(pixels)])

    def warm_up(self, max_batch_size: int) -> dict[int, float]:
        """Run every batch size up to `max_batch_size`; return the seconds that a batch of each size takes.

        The engine generates code for a batch size when it first meets it: that run took 1.3 to 3.6 times as long, and
        is not counted. The result is the median of the other runs. All sizes take turns, since other load on the
        machine lasts longer than one batch.
        """
        pixels = _noise(max_batch_size, self.manifest)
        batches = [pixels[:size] for size in range(1, max_batch_size + 1)]
        rounds = [[self._time(batch) for batch in batches] for _ in range(1 + _TIMED_ROUNDS)]
        return {len(batch): median(times) for batch, *times in zip(batches, *rounds[1:], strict=True)}

    def _time(self, pixels: NDArray[np.uint8]) -> float:
        start = perf_counter()
        self._run(pixels)
        return perf_counter() - start

    def _run(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        expected = (self.manifest.height, self.manifest.width, 3)
        if pixels.dtype != np.uint8 or pixels.shape[1:] != expected:
            raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 (N, {expected})")
        try:
            answers: NDArray[np.float32] = self._request.infer([pixels], share_inputs=True)[0]
        except RuntimeError as err:
            raise InferenceFailed(f"the network failed on a batch of {len(pixels)}: {_reason(err)}") from err
        return _squeezed(answers)

    def _outcome(self, answer: NDArray[np.float32]) -> Outcome:
        if not np.isfinite(answer).all():
            return JobFailure.of(
                InferenceFailed("the network's answer to this image is not a number; try another image")
            )
        scores = self._scores(answer)
        top = tuple(ClassScore(self.manifest.labels[i], i, float(scores[i])) for i in _best(scores, TOP_CLASSES))
        return Prediction(*top[0], top=top)

    def _scores(self, answer: NDArray[np.float32]) -> NDArray[np.float64]:
        return _softmax(answer) if self.manifest.logits else answer.clip(0, 1).astype(np.float64)

    def _check_answers(self, network: ov.Model) -> None:
        path, probes = self.manifest.network_path, _probes(self.manifest)
        try:
            together = self._run(probes)
            alone = np.concatenate([self._run(probe[np.newaxis]) for probe in probes])
        except InferenceFailed as err:
            raise ModelError(f"{path}: cannot run: {err}; {outputs.EXPORT_HINT}") from err
        if not np.isfinite(together).all(axis=tuple(range(1, together.ndim))).any():
            raise ModelError(f"{path}: answers every test picture with NaN or infinity{_nan_in_weights(network)}")
        outputs.check(together, alone, _last_function(network), self.manifest)


@cache
def _core() -> ov.Core:
    """Return the engine: one per process, kept to its end.

    It installs an alternate signal stack for the thread that first compiles a network, and frees it with the last
    engine; a signal after that would end the process.
    """
    return ov.Core()


def _read(manifest: ModelManifest) -> ov.Model:
    """Return the network with one input of the manifest's shape and a batch of any size, and one output."""
    path = manifest.network_path
    _check_files(manifest)
    try:
        network = _core().read_model(path)
    except RuntimeError as err:
        apart = [file.name for file in manifest.network_files()[1:]]
        hint = f"; are {', '.join(apart)} whole, and of the same export?" if apart else ""
        raise ModelError(f"{path}: not a readable ONNX network: {_reason(err)}{hint}") from err
    if (len(network.inputs), len(network.outputs)) != (1, 1):
        raise ModelError(
            f"{path}: has {_listed(network.inputs, 'input')} and {_listed(network.outputs, 'output')}; expected one of"
            " each, pictures and the scores of their classes: export it without the others"
        )
    _check_numbers(network.input().get_element_type(), manifest)
    _set_shape(network, manifest)
    return network


def _check_numbers(kind: ov.Type, manifest: ModelManifest) -> None:
    """Raise `ModelError` if normalised pixels would be rounded to whole numbers."""
    if kind.is_integral() and (set(manifest.mean), set(manifest.std)) != ({0}, {1}):
        raise ModelError(
            f"{manifest.network_path}: takes whole numbers ({kind.type_name}), so pixels as they are; set mean to"
            f" [0.0, 0.0, 0.0] and std to [1.0, 1.0, 1.0] in {MANIFEST}"
        )


def _listed(ports: Sequence[ov.Output], kind: str) -> str:
    names = (f"{port.any_name if port.names else 'one without a name'} {_text(port.partial_shape)}" for port in ports)
    return f"{len(ports)} {kind}{'' if len(ports) == 1 else 's'} ({', '.join(names)})"


def _check_files(manifest: ModelManifest) -> None:
    """Raise `ModelError` if a file of the network is missing or something else."""
    path = manifest.network_path
    try:
        if instead := files.instead_of_network(path):
            raise ModelError(f"{path}: not an ONNX network but {instead}")
        for file in manifest.network_files()[1:]:
            if not file.is_file():
                raise ModelError(f"{file}: not found; {_advice_on_missing_weights(manifest)}")
            if instead := files.instead_of_data(file):
                raise ModelError(f"{file}: not the network's weights but {instead}")
    except OSError as err:
        raise ModelError(f"{err.filename}: cannot be read: {err.strerror}") from err


def _advice_on_missing_weights(manifest: ModelManifest) -> str:
    """Return advice on weights that are not beside the network: often, both files were renamed."""
    known = {NETWORK, MANIFEST, LABELS, manifest.sample.file if manifest.sample else ""}
    others = sorted(each.name for each in manifest.folder.iterdir() if each.is_file() and each.name not in known)
    renamed = f"if they are what {', '.join(others)} has, give it that name, or " if others else ""
    return f"{NETWORK} has its weights in a file of this name: {renamed}copy the file that was exported with it"


def _set_shape(network: ov.Model, manifest: ModelManifest) -> None:
    path, found = manifest.network_path, network.input().partial_shape
    height, width = manifest.height, manifest.width
    expected = ov.PartialShape([-1, 3, height, width] if manifest.layout == "NCHW" else [-1, height, width, 3])
    # A batch dimension fixed at export is compatible with any; reshaping frees it.
    if not found.compatible(expected):
        raise ModelError(
            f"{path}: input is {_text(found)}; {MANIFEST} says size {height} x {width}, layout {manifest.layout},"
            f" so {_text(expected)} was expected{_advice_on_input(found, manifest)}"
        )
    try:
        network.reshape({network.input(): expected})
    except RuntimeError as err:
        raise ModelError(
            f"{path}: input is {_text(found)} and cannot be made {_text(expected)}: {_reason(err)};"
            f" {outputs.EXPORT_HINT}"
        ) from err


_COLOURS = 3


def _advice_on_input(found: ov.PartialShape, manifest: ModelManifest) -> str:
    """Return advice on an input whose shape contradicts the manifest."""
    if found.rank.is_dynamic or len(found) != 4:
        return "; networks take pictures in four dimensions: batch, channels, height and width"
    sizes = [size.get_length() if size.is_static else None for size in found]
    first, last = sizes[1] in (_COLOURS, None), sizes[3] in (_COLOURS, None)
    if first != last and first != (manifest.layout == "NCHW"):
        return f"; set layout to {'NCHW' if first else 'NHWC'}"
    channels, *size = sizes[1:] if manifest.layout == "NCHW" else (sizes[3], *sizes[1:3])
    if channels == 1:
        return (
            "; it takes grey pictures, of one channel, which are not served: export it behind a layer that averages"
            " three channels, as x.mean(1, keepdim=True) in PyTorch"
        )
    if channels not in (_COLOURS, None):
        return f"; it takes pictures of {channels} channels, and only those of three are served: red, green and blue"
    return f"; set size to {size}" if None not in size else ""


def _check_integers(network: ov.Model, manifest: ModelManifest) -> None:
    if int8.is_right_here(network, _core()):
        return
    processor = _core().get_property("CPU", "FULL_DEVICE_NAME")
    raise ModelError(
        f"{manifest.network_path}: its INT8 weights are too large for this processor ({processor}), which has no VNNI:"
        " its answers would be wrong here; make the version again with `mlapi model quantize`, or serve the original"
    )


def _with_preprocessing(network: ov.Model, manifest: ModelManifest) -> ov.Model:
    """Return the network with uint8 NHWC RGB as its input and float32 as its output.

    A quarter of the bytes go in, and the manifest's channels, mean, std and layout become part of the graph, where the
    engine fuses them.
    """
    processor = PrePostProcessor(network)
    source = processor.input()
    source.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    source.model().set_layout(ov.Layout(manifest.layout))
    steps = source.preprocess().convert_element_type(ov.Type.f32)
    if manifest.channels == "BGR":
        steps.reverse_channels()
    steps.mean(list(manifest.mean)).scale(list(manifest.std))
    processor.output().tensor().set_element_type(ov.Type.f32)
    return processor.build()


def _settings(threads: int, precision: Precision) -> dict[str, object]:
    return {
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        # Explicit, since the engine's own choice is f16 on some processors, whose largest number is 65504.
        "INFERENCE_PRECISION_HINT": native_precision() if precision == "auto" else precision,
        # Every worker process would pin its thread to the same first core.
        "ENABLE_CPU_PINNING": False,
    }


def native_precision() -> Precision:
    """Return the processor's fastest arithmetic; emulated bf16 is slower than f32."""
    return "bf16" if "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


def _squeezed(answers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return answers of shape (N, classes, 1, 1) or the like as (N, classes), others unchanged."""
    sizes = answers.shape[1:]
    return answers.reshape(len(answers), -1) if len(sizes) > 1 and max(sizes) == np.prod(sizes) else answers


# Operations that only change the outputs' shape or type, and those that shift or scale each output by constants.
_RESHAPING = {"Result", "Convert", "Reshape", "Squeeze", "Unsqueeze", "Transpose"}
_SCALING = {"Add", "Subtract", "Multiply", "Divide", "Power", "Clamp", "Minimum", "Maximum"}


def _last_function(network: ov.Model) -> str:
    """Return the type of the operation that makes the outputs, skipping those that reshape, scale or clip them."""
    node = network.get_results()[0]
    while True:
        sources = [value.get_node() for value in node.input_values()]
        varying = [source for source in sources if source.get_type_name() != "Constant"]
        if node.get_type_name() in _RESHAPING:
            node = sources[0]
        elif node.get_type_name() in _SCALING and len(varying) == 1:
            node = varying[0]
        else:
            return str(node.get_type_name())


def _nan_in_weights(network: ov.Model) -> str:
    constants = (node for node in network.get_ops() if node.get_type_name() == "Constant")
    floats = (node.data for node in constants if node.get_element_type().is_real())
    has_nan = any(not np.isfinite(data.astype(np.float32)).all() for data in floats)
    return "; some of its weights are no numbers: train or export it again" if has_nan else ""


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    # Without the subtraction, exp() overflows beyond logits of 709.
    exponentials = np.exp(logits.astype(np.float64) - logits.max())
    shares: NDArray[np.float64] = exponentials / exponentials.sum()
    return shares


def _best(scores: NDArray[np.float64], count: int) -> list[int]:
    """Return the indices of up to `count` highest scores, in descending order; of equal ones, the lower index."""
    # Sorting a thousand scores would take twice as long.
    candidates = np.argpartition(scores, -count)[-count:].tolist() if count < len(scores) else range(len(scores))
    return sorted(candidates, key=lambda i: (-scores[i], i))


def _probes(manifest: ModelManifest) -> NDArray[np.uint8]:
    """Return pictures of noise (two), black, grey and white: uint8, shape (5, height, width, 3)."""
    flat = [np.full((1, manifest.height, manifest.width, 3), level, np.uint8) for level in (0, 128, 255)]
    return np.concatenate([_noise(2, manifest), *flat])


def _noise(count: int, manifest: ModelManifest) -> NDArray[np.uint8]:
    shape = (count, manifest.height, manifest.width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _text(shape: ov.PartialShape) -> str:
    return str(shape).replace("?", "N")


def _reason(err: RuntimeError) -> str:
    # The lines before the last give the location in the engine's own source.
    return str(err).strip().splitlines()[-1]
