"""The exported ResNet-50 answers as Keras itself does, from the image file to the label and score."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from socket import create_server
from typing import Any, TypeAlias

import numpy as np
import pytest
from PIL import Image

from jobs.schema import Prediction
from model.classifier import Classifier
from model.manifest import ModelManifest
from model.preprocessing import preprocess
from model.zoo import ZooError, add
from model.zoo.labels import imagenet_labels
from model.zoo.resnet50 import manifest, network
from model.zoo.tests.reference_inputs import DOG

SCORE_TOLERANCE = 1e-4
Keras: TypeAlias = Any  # Keras's types, unknown to the type checker

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras calling PyTorch


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Make image files of several shapes, and add the dog."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.RandomState(5)
    colours = rng.randint(0, 256, (9, 12, 3)).astype(np.uint8)
    Image.fromarray(rng.randint(0, 256, (300, 451, 3)).astype(np.uint8)).save(folder / "noise.png")
    Image.fromarray(colours).resize((640, 317), Image.Resampling.BICUBIC).save(folder / "clouds.jpeg")
    Image.fromarray(colours[:3, :3, ::-1]).resize((100, 150), Image.Resampling.NEAREST).save(folder / "tiles.png")
    Image.fromarray(np.full((224, 224, 3), (200, 30, 90), np.uint8)).save(folder / "pink.png")
    return [DOG, *sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def keras() -> Keras:
    """Return Keras, whose download of ImageNet's class index is replaced by our labels."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("h5py", reason="Keras is not installed")
    network(None)
    import keras  # type: ignore[import-not-found] # not installed where types are checked
    from keras.src.applications import imagenet_utils  # type: ignore[import-not-found]

    imagenet_utils.CLASS_INDEX = {str(n): ("n00000000", label) for n, label in enumerate(imagenet_labels())}
    return keras


@pytest.fixture(scope="module")
def original(keras: Keras, pictures: list[Path]) -> Keras:
    """Return a random network whose scores differ from picture to picture.

    Straight from random numbers, all pictures get the same class with a score near 1, whatever their pixels: so the
    last layer's weights are scaled, and its bias set, to make the pictures' logits vary around zero.
    """
    keras.utils.set_random_seed(3)
    model = network(None)
    features = keras.Model(model.input, model.layers[-2].output)
    pooled = np.concatenate([features.predict(keras_pixels(keras, path), verbose=0) for path in pictures])
    kernel, _ = model.layers[-1].get_weights()
    logits = pooled @ kernel
    scale = 2 / logits.std(axis=0).mean()
    model.layers[-1].set_weights([kernel * scale, -logits.mean(axis=0) * scale])
    return model


@pytest.fixture(scope="module")
def weights(original: Keras, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the network's weights in the old HDF5 layout, as the published ones are."""
    path = tmp_path_factory.mktemp("weights") / "weights.h5"
    original.save(path)
    return path


@pytest.fixture(scope="module")
def added(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelManifest:
    """Add the model as `mlapi model add resnet50 --weights FILE` does."""
    return ModelManifest.load(add("resnet50", tmp_path_factory.mktemp("models"), weights=str(weights)))


def keras_pixels(keras: Keras, path: Path) -> Keras:
    image = keras.utils.load_img(path, target_size=(224, 224))
    return keras.applications.resnet50.preprocess_input(keras.utils.img_to_array(image)[None])


def keras_answer(keras: Keras, model: Keras, path: Path) -> tuple[str, float]:
    """Return label and score, computed as in Keras's documentation."""
    scores = model.predict(keras_pixels(keras, path), verbose=0)
    [[(_, label, score)]] = keras.applications.resnet50.decode_predictions(scores, top=1)
    return label, float(score)


def our_answers(manifest: ModelManifest, paths: list[Path]) -> list[tuple[str, float]]:
    pixels = np.stack([preprocess(path.read_bytes(), manifest, max_pixels=1_000_000) for path in paths])
    outcomes = Classifier.load(manifest).classify(pixels)
    return [(outcome.label, outcome.score) for outcome in outcomes if isinstance(outcome, Prediction)]


def agree(ours: list[tuple[str, float]], theirs: list[tuple[str, float]]) -> bool:
    return [label for label, _ in ours] == [label for label, _ in theirs] and np.allclose(
        [score for _, score in ours], [score for _, score in theirs], rtol=0, atol=SCORE_TOLERANCE
    )


@pytest.mark.parity
def test_label_and_score_are_those_of_keras_and_no_other_preprocessing_gives_them(
    keras: Keras, original: Keras, added: ModelManifest, pictures: list[Path]
) -> None:
    theirs = [keras_answer(keras, original, path) for path in pictures]
    assert len({label for label, _ in theirs}) > 1, "the pictures must differ for the comparison to mean anything"
    assert agree(our_answers(added, pictures), theirs)
    for wrong in (
        replace(added, channels="RGB"),
        replace(added, mean=(123.68, 116.779, 103.939)),
        replace(added, std=(58.0, 58.0, 58.0)),
        replace(added, interpolation="bilinear"),
        replace(added, resize="crop", crop=1.0),
    ):
        assert not agree(our_answers(wrong, pictures), theirs), wrong


@pytest.mark.parity
def test_the_version_tells_which_weights_were_taken(added: ModelManifest, weights: Path, tmp_path: Path) -> None:
    models_dir = added.folder.parent
    assert added == manifest(added.folder, added.version)
    assert added.version.startswith("1-")
    assert add("resnet50", models_dir) == added.folder, "with no weights named, those that are there will do"
    assert add("resnet50", models_dir, weights=str(weights)) == added.folder
    other = tmp_path / "other.h5"
    other.write_bytes(b"other")
    with pytest.raises(ZooError, match="another version of resnet50"):
        add("resnet50", models_dir, weights=str(other))


@pytest.mark.parity
@pytest.mark.usefixtures("keras")
def test_a_file_that_holds_other_things_than_these_weights_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.h5"
    file.write_bytes(b"<html>not found</html>")
    with pytest.raises(ZooError, match=r"weights\.h5 does not hold Keras weights of ResNet-50"):
        add("resnet50", tmp_path / "models", weights=str(file))
    assert not list((tmp_path / "models").iterdir())


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"cannot read the weights .*absent\.h5: No such file"):
        add("resnet50", tmp_path, weights=str(tmp_path / "absent.h5"))


@contextmanager
def proxy(*, accepts: bool) -> Iterator[str]:
    """Give the address of a proxy that refuses connections or, worse, accepts them and never answers."""
    with create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        if not accepts:
            server.close()
        yield address


@pytest.mark.parity
@pytest.mark.usefixtures("keras")
@pytest.mark.parametrize("accepts", [False, True], ids=["refused", "silent"])
def test_a_download_that_fails_ends_soon_and_says_what_to_do(accepts: bool, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from model.zoo import ZooError, add, resnet50\n"
        "resnet50.NETWORK_TIMEOUT_S = 0.5\n"
        "try: add('resnet50', Path(sys.argv[1]))\n"
        "except ZooError as err: print('ZooError:', err)"
    )
    with proxy(accepts=accepts) as address:
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "models")],
            env={"https_proxy": address, "KERAS_HOME": str(tmp_path / "keras"), "HOME": str(tmp_path)},
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
    assert "ZooError: Keras could not get the ImageNet weights" in done.stdout
    assert "resnet50_weights_tf_dim_ordering_tf_kernels.h5 elsewhere and name the file with --weights" in done.stdout
    assert not list((tmp_path / "models").iterdir())
