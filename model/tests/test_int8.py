"""A network of 8-bit integers is computed correctly on this processor, or refused."""

import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.manifest import ModelManifest
from testing.networks import COLOUR_WEIGHTS, save_int8_network, save_network

# With white, two products are 2 * 255 * 127, which is more than 16 bits hold.
LARGE = np.array(COLOUR_WEIGHTS) // 6 * 127
SAFE = np.array(COLOUR_WEIGHTS) // 6 * 64

PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from model.classifier import Classifier
from model.manifest import ModelError, ModelManifest
try:
    classifier = Classifier.load(ModelManifest.load(Path(sys.argv[1])))
    print(*classifier._run(np.full((1, 24, 32, 3), 255, np.uint8))[0].tolist())
except ModelError as err:
    print(err)
"""


@pytest.fixture
def manifest(manifest: ModelManifest) -> ModelManifest:
    """Return the manifest of a network that takes pixels as they are."""
    plain = replace(manifest, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    plain.write(plain.folder)
    return plain


def white(folder: Path, **environment: str) -> str:
    """Return the outputs for a white picture, or why the network is refused."""
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout


def white_without_vnni(folder: Path) -> str:
    """Return the same for an engine restricted to AVX2."""
    if platform.machine() != "x86_64":
        pytest.skip("other processors add the products of 8-bit numbers in 32 bits")
    return white(folder, ONEDNN_MAX_CPU_ISA="AVX2")


def right(weights: NDArray[np.int64]) -> str:
    """Return the exact outputs for a white picture, computed with whole numbers."""
    return f"{' '.join(str(float(each)) for each in 255 * weights.sum(axis=0))}\n"


@pytest.mark.parametrize("written", ["int8", "uint8", "floats"])
def test_weights_of_all_8_bits_are_refused_by_name_without_vnni(manifest: ModelManifest, written: str) -> None:
    save_int8_network(manifest.network_path, LARGE, written=written)
    said = white_without_vnni(manifest.folder)
    assert said.startswith(f"{manifest.network_path}: its INT8 weights are too large for this processor (")
    assert "`mlapi model quantize`" in said


@pytest.mark.parametrize("written", ["int8", "uint8", "floats"])
def test_weights_of_7_bits_are_computed_right_everywhere(manifest: ModelManifest, written: str) -> None:
    save_int8_network(manifest.network_path, SAFE, written=written)
    assert white(manifest.folder) == white_without_vnni(manifest.folder) == right(SAFE)


def test_on_this_processor_weights_of_all_8_bits_are_right_or_refused(manifest: ModelManifest) -> None:
    save_int8_network(manifest.network_path, LARGE)
    said = white(manifest.folder)
    assert said == right(LARGE) or "too large for this processor" in said


def test_a_network_of_floats_is_served_without_vnni(manifest: ModelManifest) -> None:
    save_network(manifest.network_path, ("N", 3, 24, 32), weights=LARGE)
    assert white_without_vnni(manifest.folder) == right(LARGE)
