"""`/v2` from outside, with the client that others use: NVIDIA's own, unmodified."""

import base64
import io
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image
from tritonclient.http import (  # type: ignore[import-untyped]  # it has no stubs
    InferenceServerClient,
    InferInput,
    InferRequestedOutput,
)
from tritonclient.utils import InferenceServerException  # type: ignore[import-untyped]

from testing.images import BAD_FILES, DOG, forms, save

MODEL = "efficientnet-lite0"
FORMS = forms()
# The number of requests for each figure.
TIMES = 10


@pytest.fixture
def triton(base_url: str) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(base_url.partition("://")[2], concurrency=8, network_timeout=60) as client:
        yield client


def encoded(*images: bytes, column: bool = False) -> InferInput:
    """Return an input of files, in binary."""
    array = np.array([*images, None], dtype=np.object_)[:-1]  # otherwise NumPy strips trailing zeros
    if column:
        array = array.reshape(-1, 1)
    tensor = InferInput("image", list(array.shape), "BYTES")
    tensor.set_data_from_numpy(array)
    return tensor


def in_base64(image: bytes) -> InferInput:
    """Return an input of one file, within the JSON."""
    tensor = InferInput("image", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([base64.b64encode(image)], dtype=np.object_), binary_data=False)
    return tensor


def pixels(*images: Image.Image, binary: bool = True) -> InferInput:
    """Return an input of pixels."""
    array = np.stack([np.asarray(image.convert("RGB")) for image in images])
    tensor = InferInput("image", list(array.shape), "UINT8")
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def told(result: Any, name: str) -> list[list[Any]]:
    """Return an output, its texts as such."""
    rows = result.as_numpy(name).tolist()
    return [[value.decode() if isinstance(value, bytes) else value for value in row] for row in rows]


def predicted(base_url: str, data: bytes) -> tuple[list[str], list[int], list[float]]:
    """Return `/v1`'s answer to an image: labels, indices and scores."""
    response = requests.post(f"{base_url}/v1/predictions", files={"file": ("x", data)}, timeout=60)
    classes = response.json()["results"][0]["predictions"]
    return (
        [each["label"] for each in classes],
        [each["class_index"] for each in classes],
        [each["score"] for each in classes],
    )


def test_the_client_finds_the_service_and_its_model(triton: InferenceServerClient) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready(MODEL)
    assert triton.is_model_ready(MODEL, "1")
    assert not triton.is_model_ready("another")
    assert not triton.is_model_ready(MODEL, "2")
    assert "binary_tensor_data" in triton.get_server_metadata()["extensions"]
    model = triton.get_model_metadata(MODEL)
    assert (model["name"], model["versions"]) == (MODEL, ["1"])
    assert [(each["name"], each["shape"]) for each in model["outputs"]] == [
        ("scores", [-1, 5]),
        ("class_index", [-1, 5]),
        ("labels", [-1, 5]),
    ]


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("wanted", [None, True, False], ids=["all in binary", "in binary", "in JSON"])
def test_several_images_get_what_v1_tells_of_them(
    triton: InferenceServerClient, base_url: str, column: bool, wanted: bool | None
) -> None:
    images = [DOG, FORMS["PNG"].data, FORMS["GIF"].data]
    names = ["scores", "class_index", "labels"]
    outputs = None if wanted is None else [InferRequestedOutput(name, binary_data=wanted) for name in names]
    result = triton.infer(MODEL, [encoded(*images, column=column)], outputs=outputs, request_id="42")
    labels, indices, scores = (list(each) for each in zip(*(predicted(base_url, data) for data in images), strict=True))
    assert told(result, "labels") == labels
    assert told(result, "class_index") == indices
    assert told(result, "scores") == [pytest.approx(row, abs=0.01) for row in scores]
    assert result.as_numpy("scores").dtype == np.float32
    answer = result.get_response()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("42", MODEL, "1")


def test_images_may_be_base64_in_json(triton: InferenceServerClient) -> None:
    assert told(triton.infer(MODEL, [in_base64(DOG)], model_version="1"), "labels")[0][0] == "Eskimo_dog"


@pytest.mark.parametrize("binary", [True, False])
def test_pixels_are_classified_as_the_file_that_has_them(
    triton: InferenceServerClient, base_url: str, binary: bool
) -> None:
    photo = Image.open(io.BytesIO(DOG)).resize((160, 120))
    images = [photo, photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    result = triton.infer(MODEL, [pixels(*images, binary=binary)])
    expected = [predicted(base_url, save(image, "PNG")) for image in images]
    assert [row[0] for row in told(result, "labels")] == [labels[0] for labels, _, _ in expected]
    assert [row[0] for row in told(result, "scores")] == [pytest.approx(row[0], abs=0.01) for _, _, row in expected]


def test_each_encoding_of_an_image_gets_the_same_answer(triton: InferenceServerClient, figures: list[str]) -> None:
    photo = Image.open(io.BytesIO(DOG)).resize((160, 120))
    tensors = {
        "file": encoded(save(photo, "PNG")),
        "file in base64": in_base64(save(photo, "PNG")),
        "pixels": pixels(photo),
        "pixels in JSON": pixels(photo, binary=False),
    }
    answers: list[Any] = []
    median_ms: dict[str, float] = {}
    for name, tensor in tensors.items():
        times_ms = []
        for _ in range(TIMES):
            started = time.perf_counter()
            answers.append(told(triton.infer(MODEL, [tensor]), "labels"))
            times_ms.append(1000 * (time.perf_counter() - started))
        median_ms[name] = statistics.median(times_ms)
    alike = sum(answer == answers[0] for answer in answers)
    times = ", ".join(f"{name} {each_ms:.0f} ms" for name, each_ms in median_ms.items())
    figures.append(f"tritonclient: {alike} of {len(answers)} answers alike; medians by encoding: {times}")
    assert alike == len(answers)


@pytest.mark.parametrize("binary", [True, False])
def test_classes_come_as_texts(triton: InferenceServerClient, binary: bool) -> None:
    wanted = InferRequestedOutput("scores", binary_data=binary, class_count=2)
    [texts] = told(triton.infer(MODEL, [encoded(DOG)], outputs=[wanted]), "scores")
    score, index, label = texts[0].split(":")
    assert float(score) == pytest.approx(0.64, abs=0.01)
    assert (index, label) == ("248", "Eskimo_dog")
    assert len(texts) == 2


# A tensor has no file names, and the last of them would be too large for a request.
@pytest.mark.parametrize("name", sorted(BAD_FILES.keys() - {"an image with another ending", "far too many bytes"}))
def test_one_bad_file_fails_the_request_and_is_named(triton: InferenceServerClient, name: str) -> None:
    _, data, status = BAD_FILES[name]
    with pytest.raises(InferenceServerException, match="Image 2 of 2") as failure:
        triton.infer(MODEL, [encoded(DOG, data)])
    assert failure.value.status() == str(status)
    triton.infer(MODEL, [encoded(DOG)])


def wrong_name() -> InferInput:
    tensor = encoded(DOG)
    tensor._name = "input0"  # noqa: SLF001 - there is no other way
    return tensor


def floats() -> InferInput:
    tensor = InferInput("image", [1, 3, 224, 224], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 3, 224, 224), np.float32))
    return tensor


def in_shared_memory() -> InferInput:
    return InferInput("image", [1], "BYTES").set_shared_memory("region", 100)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (wrong_name, "inputs.0.name"),
        (floats, "'BYTES' or 'UINT8'"),
        (in_shared_memory, "binary_data_size"),
        (lambda: encoded(*[DOG] * 17), "at most 16"),
        (lambda: encoded(bytes(30_000_000)), "at most 20000000 bytes"),
    ],
)
def test_what_the_service_does_not_take_is_told(triton: InferenceServerClient, tensor: Any, words: str) -> None:
    with pytest.raises(InferenceServerException, match=words):
        triton.infer(MODEL, [tensor()])


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_a_request_may_be_compressed(triton: InferenceServerClient, algorithm: str) -> None:
    for tensor in (encoded(DOG), in_base64(DOG)):
        result = triton.infer(MODEL, [tensor], request_compression_algorithm=algorithm)
        assert told(result, "labels")[0][0] == "Eskimo_dog"


def test_an_answer_need_not_be_compressed_where_that_is_wanted(triton: InferenceServerClient) -> None:
    result = triton.infer(MODEL, [encoded(DOG)], response_compression_algorithm="gzip")
    assert told(result, "labels")[0][0] == "Eskimo_dog"


def test_many_requests_may_wait_at_once(triton: InferenceServerClient, base_url: str) -> None:
    images = [save(FORMS["PNG"].seen.rotate(45 * turns), "PNG") for turns in range(8)]
    waiting = [triton.async_infer(MODEL, [encoded(image)]) for image in images]
    labels = [told(each.get_result(), "labels")[0][0] for each in waiting]
    assert labels == [predicted(base_url, image)[0][0] for image in images]
