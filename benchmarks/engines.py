"""Compares OpenVINO with ONNX Runtime, in the precisions of each, with one network on the same pictures.

`python -m benchmarks.engines --photos FOLDER` prints one table. ONNX Runtime is no dependency of the service; it comes
with the packages that `make test` installs, and `pip install onnxruntime` adds it elsewhere.
"""

import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import click
import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks import quiet
from benchmarks.table import conditions, markdown
from benchmarks.variations import vary
from mlapi.service.cores import available_cores
from mlapi.tuning import throughput
from mlapi.tuning.throughput import BATCH_SIZES, Plan, Speed, Step, Workers
from model.classifier import Classifier
from model.manifest import ModelManifest
from model.preprocessing import preprocess
from model.settings import ModelSettings

Pixels = NDArray[np.uint8]
# Runs uint8 RGB pictures of shape (N, height, width, 3) through the network.
Infer = Callable[[Pixels], object]
Prepare = Callable[[str, ModelManifest, Sequence[bytes], int], Step]

_PICTURES, _SIDES_PX, _MAX_PIXELS = 64, (400, 800), 10**6
_HEADER = (
    *("engine", "workers", "threads of each", "network alone, images/s", "its batch size"),
    *("with decoding, images/s", "its batch size"),
)


def _openvino_f32(manifest: ModelManifest, threads: int) -> Infer:
    return Classifier.load(manifest, threads=threads, precision="f32").classify


def _openvino_bf16(manifest: ModelManifest, threads: int) -> Infer:
    return Classifier.load(manifest, threads=threads, precision="bf16").classify


def _onnxruntime_f32(manifest: ModelManifest, threads: int) -> Infer:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at its import; it would report its use to Microsoft
    import onnxruntime  # type: ignore[import-untyped,import-not-found,unused-ignore]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    network = with_preprocessing(manifest).SerializeToString()
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {"pixels": pixels})


ENGINES: Mapping[str, Callable[[ModelManifest, int], Infer]] = {
    "OpenVINO, f32": _openvino_f32,
    "OpenVINO, bf16": _openvino_bf16,
    "ONNX Runtime, f32": _onnxruntime_f32,
}


def with_preprocessing(manifest: ModelManifest) -> onnx.ModelProto:
    """Return the network with uint8 NHWC RGB as its input and the manifest's normalisation in its graph.

    So it does the same work as OpenVINO, whose graph includes that, too.
    """
    model = onnx.load(manifest.network_path)
    channels = [0, 1, 2] if manifest.channels == "RGB" else [2, 1, 0]
    order = [0, 3, 1, 2] if manifest.layout == "NCHW" else [0, 1, 2, 3]
    before = onnx.parser.parse_graph(f"""
        prepare (uint8[N, {manifest.height}, {manifest.width}, 3] pixels) => (float[N, A, B, C] prepared) {{
            channels = Constant <value_ints: ints = {channels}> ()
            mean = Constant <value_floats: floats = {[*manifest.mean]}> ()
            std = Constant <value_floats: floats = {[*manifest.std]}> ()
            ordered = Gather <axis = 3> (pixels, channels)
            levels = Cast <to = {onnx.TensorProto.FLOAT}> (ordered)
            centred = Sub (levels, mean)
            scaled = Div (centred, std)
            prepared = Transpose <perm: ints = {order}> (scaled)
        }}""")
    before.node[-1].output[0] = model.graph.input[0].name
    model.graph.input[0].CopyFrom(before.input[0])
    nodes = [*before.node, *model.graph.node]
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)
    return model


# The steps that a worker repeats: inference alone, or with decoding.


def _alone(engine: str, manifest: ModelManifest, files: Sequence[bytes], threads: int) -> Step:
    infer = ENGINES[engine](manifest, threads)
    pixels = np.stack([preprocess(file, manifest, _MAX_PIXELS) for file in files[: max(BATCH_SIZES)]])
    return lambda batch_size: infer(pixels[:batch_size])


def _with_decoding(engine: str, manifest: ModelManifest, files: Sequence[bytes], threads: int) -> Step:
    infer, source = ENGINES[engine](manifest, threads), itertools.cycle(files)
    return lambda size: infer(np.stack([preprocess(next(source), manifest, _MAX_PIXELS) for _ in range(size)]))


_WORKS: Sequence[Prepare] = (_alone, _with_decoding)


def _workers(prepare: Prepare, engine: str, manifest: ModelManifest, files: Sequence[bytes], plan: Plan) -> Workers:
    return Workers(partial(prepare, engine, manifest, files, plan.threads), plan.instances)


def measure(
    engines: Sequence[str],
    manifest: ModelManifest,
    files: Sequence[bytes],
    seconds: float,
    rounds: int,
    patience_s: float,
) -> list[tuple[str, ...]]:
    """Return the table's rows: every engine's speed by workers and threads, each with its best batch size."""
    tries = defaultdict[tuple[str, Prepare], list[tuple[Plan, float]]](list)
    plans = throughput.plans(available_cores())
    for number, engine, work in itertools.product(range(rounds), engines, _WORKS):
        quiet.wait(patience_s)
        click.echo(f"round {number + 1} of {rounds}: {engine}", err=True)
        tries[engine, work] += throughput.measurements(
            partial(_workers, work, engine, manifest, files), plans, seconds, rounds=1
        )
    speeds = {key: throughput.summary(each) for key, each in tries.items()}
    return [row for engine in engines for row in rows(engine, *(speeds[engine, work] for work in _WORKS))]


def rows(engine: str, alone: Sequence[Speed], with_decoding: Sequence[Speed]) -> list[tuple[str, ...]]:
    """Return an engine's rows: the fastest batch size for each split of the cores."""
    both = zip(_fastest(alone), _fastest(with_decoding), strict=True)
    return [
        (engine, *map(str, (one.plan.instances, one.plan.threads)), *_cells(one), *_cells(other)) for one, other in both
    ]


def _fastest(speeds: Sequence[Speed]) -> list[Speed]:
    by_shape = itertools.groupby(speeds, lambda speed: (speed.plan.instances, speed.plan.threads))
    return [max(same, key=lambda speed: speed.images_per_s) for _, same in by_shape]


def _cells(speed: Speed) -> tuple[str, str]:
    return (f"{speed.images_per_s:.0f}", str(speed.plan.batch_size))


@click.command(context_settings={"show_default": True})
@click.option("--photos", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Else the project's dog.")
@click.option("--seconds", default=1.0, help="How long each way to use the cores is measured.")
@click.option("--rounds", default=3, help="How often; the table has the medians.")
@click.option("--patience", default=10.0, help="Seconds to wait for a quiet processor before each engine.")
@click.option("--only", type=click.Choice(list(ENGINES)), multiple=True, help="Measure this; may be repeated.")
def main(photos: Path | None, seconds: float, rounds: int, patience: float, only: Sequence[str]) -> None:
    """Compare inference engines on the network of MODEL, and print one table."""
    engines = only or ENGINES
    if not find_spec("onnxruntime"):
        click.echo("ONNX Runtime is not installed: `pip install onnxruntime` adds it to the table", err=True)
        engines = [engine for engine in engines if not engine.startswith("ONNX")]
    manifest = ModelManifest.load(ModelSettings.from_env().model)
    found = measure(list(engines), manifest, list(vary(photos, _PICTURES, _SIDES_PX)), seconds, rounds, patience)
    print(f"{markdown(_HEADER, found)}\n\n{conditions()}; {manifest.name}. Medians of {rounds} x {seconds:g} s.")


if __name__ == "__main__":
    main()
