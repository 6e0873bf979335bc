"""`/v2`, as clients of the Open Inference Protocol use it."""

import base64
import io
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from werkzeug.test import TestResponse

from api.access.keys import KeyFile
from api.tests.conftest import DOG, FakeWorker, MakeApp
from api.tests.test_predictions import png
from api.uploads.structure import ImageLimits
from api.v2 import requests
from jobs import __version__
from jobs.queue.interface import Admission
from jobs.queue.memory import MemoryJobQueue
from jobs.schema import ImageJob, JobFailure, ModelInfo, Prediction, Timings
from runtime.errors import InferenceFailed, OutOfMemory, ServiceError

MODEL = "/v2/models/pets"
PATH = f"{MODEL}/infer"
LENGTH = requests.JSON_LENGTH

LIMITS = ImageLimits(pixels=50_000_000, frames=1000, metadata_bytes=4_000_000)

SCORES = [0.640374, 0.2]


@pytest.fixture
def queue() -> MemoryJobQueue:
    queue = MemoryJobQueue(max_jobs=3, cache_ttl_s=60)
    queue.publish(ModelInfo("m1", "pets", "7", "f32", 224, 192, "crop", ("cat", "Eskimo_dog")))
    return queue


def tensor(*images: bytes, **others: Any) -> dict[str, Any]:
    """Return an input in JSON."""
    data = [base64.b64encode(image).decode() for image in images]
    return {"name": "image", "shape": [len(images)], "datatype": "BYTES", "data": data, **others}


def elements(*images: bytes) -> bytes:
    """Return the binary data of a tensor of images."""
    return b"".join(struct.pack("<I", len(image)) + image for image in images)


def in_binary(binary: bytes, *, count: int = 1, asked: Any = None, **others: Any) -> dict[str, Any]:
    """Return a request whose input is binary."""
    size = {"binary_data_size": len(binary)}
    described = {"name": "image", "shape": [count], "datatype": "BYTES", "parameters": size, **others}
    head = json.dumps({"inputs": [described], **(asked or {})}).encode()
    return {"data": head + binary, "headers": {LENGTH: str(len(head))}}


def outputs(response: TestResponse) -> dict[str, Any]:
    """Return the outputs of a JSON response, after checking their shapes."""
    assert response.status_code == 200, response.get_data()
    told = response.get_json()["outputs"]
    for output in told:
        rows, columns = output["shape"]
        assert rows * columns == len(output["data"])
    return {output["name"]: output["data"] for output in told}


def check_error(response: TestResponse, status: int, words: str = "") -> str:
    """Return an error's text, after checking that it is in the protocol's format."""
    assert (response.status_code, response.mimetype) == (status, "application/json"), response.get_data()
    answer = response.get_json()
    assert list(answer) == ["error"]
    assert words in answer["error"]
    return str(answer["error"])


@pytest.mark.usefixtures("worker")
def test_the_service_and_its_model_are_told(client: FlaskClient) -> None:
    server = client.get("/v2").get_json()
    assert server == {
        "name": "flask-ml-api",
        "version": __version__,
        "extensions": ["binary_tensor_data", "classification"],
    }
    model = {
        "name": "pets",
        "versions": ["7"],
        "platform": "openvino",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "scores", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "class_index", "datatype": "INT64", "shape": [-1, 2]},
            {"name": "labels", "datatype": "BYTES", "shape": [-1, 2]},
        ],
    }
    assert client.get(MODEL).get_json() == client.get(f"{MODEL}/versions/7").get_json() == model


@pytest.mark.parametrize("path", ["", "/ready", "/infer"])
@pytest.mark.parametrize("model", ["cars", "cars/versions/7", "pets/versions/8"])
@pytest.mark.usefixtures("worker")
def test_there_is_no_other_model_and_no_other_version(client: FlaskClient, model: str, path: str) -> None:
    call = client.post if path == "/infer" else client.get
    check_error(call(f"/v2/models/{model}{path}"), 404, "served")


READY = {"/v2/health/ready": {"ready": True}, f"{MODEL}/ready": {"name": "pets", "ready": True}}


@pytest.mark.parametrize("path", [*READY, f"{MODEL}/versions/7/ready"])
def test_it_is_ready_while_a_worker_is_alive_and_lives_anyway(
    client: FlaskClient, queue: MemoryJobQueue, path: str
) -> None:
    queue.heartbeat("w1", 0.01, "m1")
    response = client.get(path)
    assert (response.status_code, response.get_json()) == (200, READY[path.replace("/versions/7", "")])
    queue.retire("w1")
    response = client.get(path)
    check_error(response, 503, "No model worker")
    assert int(response.headers["Retry-After"]) > 0
    assert client.get("/v2/health/live").get_json() == {"live": True}


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    "request_of",
    [
        lambda dog: {"json": {"inputs": [tensor(dog)]}},
        lambda dog: {"json": {"inputs": [tensor(dog, shape=[1, 1])]}},
        lambda dog: {"json": {"inputs": [tensor(dog, shape=[1, 1], data=[[base64.b64encode(dog).decode()]])]}},
        lambda dog: in_binary(elements(dog)),
        lambda dog: in_binary(elements(dog), shape=[1, 1]),
        lambda dog: {"data": dog, "headers": {LENGTH: "0"}},
        lambda dog: {"data": dog, "headers": {LENGTH: "0", "Content-Encoding": "identity"}},
    ],
    ids=["JSON", "JSON of two dimensions", "nested JSON", "binary", "binary of two dimensions", "alone", "identity"],
)
@pytest.mark.parametrize("path", [PATH, f"{MODEL}/versions/7/infer"])
def test_an_image_gets_its_classes_however_it_is_sent(
    client: FlaskClient, dog: bytes, worker: FakeWorker, request_of: Any, path: str
) -> None:
    response = client.post(path, **request_of(dog))
    expected = {"scores": SCORES, "class_index": [248, 249], "labels": ["Eskimo_dog", "malamute"]}
    assert outputs(response) == expected
    answer = response.get_json()
    assert (answer["model_name"], answer["model_version"], "id" in answer) == ("pets", "7", False)
    assert [each["datatype"] for each in answer["outputs"]] == ["FP32", "INT64", "BYTES"]
    assert len(worker.image_names) == 1


@pytest.mark.usefixtures("worker")
def test_the_requests_id_comes_back(client: FlaskClient) -> None:
    answer = client.post(PATH, json={"id": "42", "inputs": [tensor(png(1))]}).get_json()
    assert answer["id"] == "42"


def test_the_header_server_timing_says_where_the_time_went(client: FlaskClient, worker: FakeWorker) -> None:
    worker.outcome = replace(DOG, timings=Timings(queue_ms=1, decode_ms=2, inference_ms=9, batch_size=4))
    computed, cached = (client.post(PATH, json={"inputs": [tensor(png(1))]}).headers["Server-Timing"] for _ in range(2))
    assert computed.startswith('queue;dur=1.0, decode;dur=2.0, inference;dur=9.0, batch;desc="4", total;dur=')
    assert cached.startswith("cache, total;dur=")


def test_several_images_are_answered_in_their_order(client: FlaskClient, queue: MemoryJobQueue) -> None:
    queue.heartbeat("w1", 0.01, "m1")
    images = [png(number) for number in range(3)]
    for number, image in enumerate(images):  # each with its own response
        worker = FakeWorker(queue)
        worker.outcome = Prediction(f"label {number}", number, number / 4, "m1")
        client.post(PATH, json={"inputs": [tensor(image)]})
        worker.stop()
    answers = outputs(client.post(PATH, **in_binary(elements(*images), count=3)))
    assert answers == {"scores": [0, 0.25, 0.5], "class_index": [0, 1, 2], "labels": ["label 0", "label 1", "label 2"]}


PIXELS = bytes(range(2 * 5 * 4 * 3))
NESTED = [[[[7, 8, 9]] * 4] * 5] * 2


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("request_of", "expected"),
    [
        (lambda shape: in_binary(PIXELS, datatype="UINT8", shape=shape), [PIXELS[:60], PIXELS[60:]]),
        (
            lambda shape: {"json": {"inputs": [tensor(datatype="UINT8", shape=shape, data=list(PIXELS))]}},
            [PIXELS[:60], PIXELS[60:]],
        ),
        (
            lambda shape: {"json": {"inputs": [tensor(datatype="UINT8", shape=shape, data=NESTED)]}},
            [bytes([7, 8, 9] * 20)] * 2,
        ),
    ],
    ids=["binary", "JSON", "nested JSON"],
)
def test_pixels_are_classified_as_an_image_of_them(
    client: FlaskClient, tmp_path: Path, request_of: Any, expected: list[bytes]
) -> None:
    assert outputs(client.post(PATH, **request_of([2, 5, 4, 3])))["labels"] == ["Eskimo_dog", "malamute"] * 2
    pictures = [Image.open(io.BytesIO(path.read_bytes())) for path in (tmp_path / "uploads").iterdir()]
    assert {(picture.size, picture.mode, picture.tobytes()) for picture in pictures} == {
        ((4, 5), "RGB", pixels) for pixels in expected
    }


@pytest.mark.usefixtures("worker")
def test_the_outputs_that_are_wanted_are_told_in_their_order(client: FlaskClient) -> None:
    wanted = [{"name": "labels"}, {"name": "scores", "parameters": {"binary_data": False}}]
    told = outputs(client.post(PATH, json={"inputs": [tensor(png(1))], "outputs": wanted}))
    assert list(told.items()) == [("labels", ["Eskimo_dog", "malamute"]), ("scores", SCORES)]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(("count", "expected"), [(1, 1), (2, 2), (5, 2)])
def test_classes_are_told_in_one_text_each_where_that_is_wanted(client: FlaskClient, count: int, expected: int) -> None:
    wanted = [{"name": "scores", "parameters": {"classification": count}}]
    response = client.post(PATH, json={"inputs": [tensor(png(1))], "outputs": wanted})
    assert outputs(response) == {"scores": ["0.640374:248:Eskimo_dog", "0.200000:249:malamute"][:expected]}
    [output] = response.get_json()["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, expected])


SCORES_BYTES, INDEX_BYTES, LABEL_BYTES = (
    struct.pack("<2f", *SCORES),
    struct.pack("<2q", 248, 249),
    elements(b"Eskimo_dog", b"malamute"),
)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("asked", "binary"),
    [
        ({"parameters": {"binary_data_output": True}}, [SCORES_BYTES, INDEX_BYTES, LABEL_BYTES]),
        ({"outputs": [{"name": "labels", "parameters": {"binary_data": True}}, {"name": "scores"}]}, [LABEL_BYTES]),
        (
            {
                "parameters": {"binary_data_output": True, "priority": 1},
                "outputs": [{"name": "class_index"}, {"name": "labels", "parameters": {"binary_data": False}}],
            },
            [INDEX_BYTES],
        ),
        (
            {"outputs": [{"name": "scores", "parameters": {"binary_data": True, "classification": 1}}]},
            [elements(b"0.640374:248:Eskimo_dog")],
        ),
    ],
)
def test_outputs_come_in_binary_where_that_is_wanted(client: FlaskClient, asked: Any, binary: list[bytes]) -> None:
    response = client.post(PATH, json={"inputs": [tensor(png(1))], **asked})
    assert (response.status_code, response.mimetype) == (200, "application/octet-stream")
    body, end = response.get_data(), int(response.headers[LENGTH])
    assert body[end:] == b"".join(binary)
    told = json.loads(body[:end])["outputs"]
    sizes = [output["parameters"]["binary_data_size"] for output in told if "data" not in output]
    assert sizes == [len(each) for each in binary]


def bad_binary(binary: bytes, count: int = 1, **others: Any) -> Any:
    return in_binary(binary, count=count, **others)


def bad_input(**others: Any) -> Any:
    return {"json": {"inputs": [tensor(png(1), **others)]}}


def bad_length(value: str) -> Any:
    return {"data": b"{}", "headers": {LENGTH: value}}


BAD_REQUESTS: dict[str, tuple[Any, int, str]] = {
    "no body": ({}, 400, "Invalid JSON"),
    "no JSON": ({"data": b"\xff"}, 400, "Invalid JSON"),
    "no object": ({"json": []}, 400, "body"),
    "deep JSON": ({"data": b'{"inputs":' + b"[" * 5000}, 400, "Invalid JSON"),
    "long number": ({"data": b'{"inputs":' + b"9" * 5000 + b"}"}, 400, "Invalid JSON"),
    "no inputs": ({"json": {}}, 400, "inputs: Field required"),
    "empty inputs": ({"json": {"inputs": []}}, 400, "inputs"),
    "two inputs": ({"json": {"inputs": [tensor(png(1))] * 2}}, 400, "inputs"),
    "another name": (bad_input(name="input0"), 400, "inputs.0.name: Input should be 'image'"),
    "another datatype": (bad_input(datatype="FP32"), 400, "inputs.0.datatype: Input should be 'BYTES' or 'UINT8'"),
    "id that is no text": ({"json": {"id": 7, "inputs": [tensor(png(1))]}}, 400, "id"),
    "no shape": (bad_input(shape=[]), 400, "inputs.0.shape"),
    "shape of text": (bad_input(shape=["1"]), 400, "inputs.0.shape"),
    "no image": (bad_input(shape=[0], data=[]), 400, "inputs.0.shape"),
    "negative shape": (bad_input(shape=[-1]), 400, "inputs.0.shape"),
    "huge shape": (bad_input(shape=[10**40]), 400, "inputs.0.shape"),
    "more than is there": (bad_input(shape=[2]), 400, "2 texts"),
    "less than is there": (bad_input(shape=[1], data=["", ""]), 400, "1 texts"),
    "encoded images of a wrong shape": (bad_input(shape=[1, 2]), 400, "[N] or [N, 1]"),
    "too many images": (bad_input(shape=[17], data=[""] * 17), 413, "at most 16"),
    "no base64": (bad_input(data=["?"]), 400, "base64"),
    "numbers for images": (bad_input(data=[1]), 400, "1 texts"),
    "data that are no list": (bad_input(data="x"), 400, "inputs.0.data"),
    "no data": (bad_input(data=None), 400, "binary_data_size"),
    "shared memory": (bad_input(data=None, parameters={"shared_memory_region": "x"}), 400, "binary_data_size"),
    "data twice": (in_binary(elements(png(1)), data=[""]), 400, "not both"),
    "pixels of a wrong shape": (bad_input(datatype="UINT8", shape=[3, 4, 5], data=[]), 400, "[N, height, width, 3]"),
    "pixels of 4 channels": (bad_input(datatype="UINT8", shape=[1, 1, 1, 4], data=[0] * 4), 400, "width, 3]"),
    "no pixels": (bad_input(datatype="UINT8", shape=[1, 0, 1, 3], data=[]), 400, "inputs.0.shape"),
    "too few pixels": (bad_input(datatype="UINT8", shape=[1, 1, 2, 3], data=[0] * 5), 400, "5 elements"),
    "too few bytes of pixels": (bad_binary(bytes(5), datatype="UINT8", shape=[1, 1, 2, 3]), 400, "5 elements"),
    "more pixels than could be": (
        bad_binary(bytes(6), datatype="UINT8", shape=[16, 2**31 - 1, 2**31 - 1, 3]),
        413,
        "2147483647 x 2147483647 pixels",
    ),
    "more pixels a side than a decoder takes": (
        bad_binary(bytes(6), datatype="UINT8", shape=[1, 65_536, 1, 3]),
        413,
        "at most 65535 a side",
    ),
    "more names than a request has": ({"data": b'{"":0' + b',"":0' * 5000}, 413, "names"),
    "more JSON than could be worth it": ({"data": b'{"id":"' + "🦊".encode() * 1_000_001}, 413, "4000000 bytes"),
    "no octets": (bad_input(datatype="UINT8", shape=[1, 1, 1, 3], data=[0, 0, 256]), 400, "0 to 255"),
    "fractions": (bad_input(datatype="UINT8", shape=[1, 1, 1, 3], data=[0.5] * 3), 400, "0 to 255"),
    "ragged lists": (bad_input(datatype="UINT8", shape=[1, 1, 1, 3], data=[[0], 0, 0]), 400, "0 to 255"),
    "another output": ({"json": {"inputs": [tensor(png(1))], "outputs": [{"name": "x"}]}}, 400, "outputs.0.name"),
    "no classes": (
        {"json": {"inputs": [tensor(png(1))], "outputs": [{"name": "scores", "parameters": {"classification": 0}}]}},
        400,
        "outputs.0.parameters.classification",
    ),
    "too many classes": (
        {"json": {"inputs": [tensor(png(1))], "outputs": [{"name": "scores", "parameters": {"classification": 6}}]}},
        400,
        "outputs.0.parameters.classification",
    ),
    "too many outputs": ({"json": {"inputs": [tensor(png(1))], "outputs": [{"name": "scores"}] * 17}}, 400, "outputs"),
    "too many lists": ({"data": b'{"inputs":[' + b"[]," * 100_000}, 413, "binary"),
    "too many values": ({"data": b'{"inputs":[' + b"0," * 300_001}, 413, "binary"),
    "negative length": (bad_length("-1"), 400, LENGTH),
    "length with a sign": (bad_length("+2"), 400, LENGTH),
    "length with an underscore": (bad_length("2_0"), 400, LENGTH),
    "length in other digits": (bad_length("\N{SUPERSCRIPT TWO}"), 400, LENGTH),
    "huge length": (bad_length("9" * 5000), 400, LENGTH),
    "length beyond the body": (bad_length("3"), 400, LENGTH),
    "empty length": (bad_length(""), 400, LENGTH),
    "length that cuts the JSON": (bad_length("1"), 400, "Invalid JSON"),
    "negative size": (in_binary(b"", parameters={"binary_data_size": -1}), 400, "binary_data_size"),
    "size that is none": (in_binary(b"x", parameters={"binary_data_size": True}), 400, "binary_data_size"),
    "huge size": (in_binary(b"x", parameters={"binary_data_size": 10**30}), 400, "1 bytes follow"),
    "size beyond the body": (in_binary(b"x", parameters={"binary_data_size": 2}), 400, "1 bytes follow"),
    "bytes that nobody has": (in_binary(b"x", parameters={"binary_data_size": 0}), 400, "1 bytes follow"),
    "bytes behind JSON data": (in_binary(b"x", parameters={}, data=[""]), 400, "1 bytes follow"),
    "no element": (bad_binary(b""), 400, "not 1 elements"),
    "half a length": (bad_binary(b"\1\0"), 400, "not 1 elements"),
    "element that is cut": (bad_binary(elements(b"12345")[:-1]), 400, "not 1 elements"),
    "element of 4 GB": (bad_binary(b"\xff\xff\xff\xff"), 400, "not 1 elements"),
    "elements too few": (bad_binary(elements(png(1)), count=2), 400, "not 2 elements"),
    "elements too many": (bad_binary(elements(png(1), png(2))), 400, "not 1 elements"),
    "compressed": ({"data": b"x", "headers": {"Content-Encoding": "br"}}, 415, "gzip or deflate"),
    "bad image": (in_binary(elements(b"no image")), 400, "not a PNG"),
    "empty image": (in_binary(elements(b"")), 400, "empty"),
    "nothing, as an image": ({"data": b"", "headers": {LENGTH: "0"}}, 400, "empty"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_told_what_is_wrong(client: FlaskClient, worker: FakeWorker, name: str) -> None:
    request, status, words = BAD_REQUESTS[name]
    check_error(client.post(PATH, **request), status, words)
    assert worker.image_names == []


def test_a_bad_image_fails_the_request_and_is_named_and_none_is_computed(
    client: FlaskClient, worker: FakeWorker
) -> None:
    response = client.post(PATH, **in_binary(elements(png(1), b"no image", png(2)), count=3))
    assert check_error(response, 400).startswith("Image 2 of 3: The file is not a PNG")
    assert worker.image_names == []


@pytest.mark.parametrize(("error", "status"), [(InferenceFailed(), 500), (OutOfMemory(), 503)])
def test_a_failure_in_the_worker_is_passed_on(
    client: FlaskClient, worker: FakeWorker, error: ServiceError, status: int
) -> None:
    client.post(PATH, json={"inputs": [tensor(png(1))]})
    worker.outcome = JobFailure.of(error)
    response = client.post(PATH, json={"inputs": [tensor(png(1), png(2))]})
    assert check_error(response, status) == f"Image 2 of 2: {error}"
    assert ("Retry-After" in response.headers) == (status == 503)


@pytest.mark.parametrize(("header", "lane"), [({}, "interactive"), ({"Priority": "u=6"}, "bulk")])
def test_a_request_says_whether_it_has_time(
    client: FlaskClient, queue: MemoryJobQueue, worker: FakeWorker, header: dict[str, str], lane: str
) -> None:
    lanes: list[str] = []
    submit = queue.submit

    def note(job: ImageJob) -> Admission:
        lanes.append(job.lane)
        return submit(job)

    queue.submit = note  # type: ignore[method-assign]
    outputs(client.post(PATH, json={"inputs": [tensor(png(1))]}, headers=header))
    assert (lanes, len(worker.image_names)) == ([lane], 1)


def test_images_are_counted_by_what_became_of_them(client: FlaskClient, worker: FakeWorker) -> None:
    client.post(PATH, json={"inputs": [tensor(png(1), png(2))]})
    client.post(PATH, json={"inputs": [tensor(png(3), b"no image")]})
    worker.outcome = JobFailure.of(InferenceFailed())
    client.post(PATH, json={"inputs": [tensor(png(1), png(4))]})
    counted = client.get("/metrics").text
    for outcome, count in {"cached": 3, "not-an-image": 1, "inference-failed": 1}.items():
        assert f'mlapi_predictions_total{{outcome="{outcome}"}} {count}.0' in counted


def test_where_not_all_images_find_a_place_none_keeps_one(client: FlaskClient, queue: MemoryJobQueue) -> None:
    queue.heartbeat("busy", 0.01, "m1")
    response = client.post(PATH, json={"inputs": [tensor(*(png(number) for number in range(4)))]})
    check_error(response, 429, "Too many images are waiting")
    assert int(response.headers["Retry-After"]) > 0
    assert queue.take_batch("busy", 10, 0) == []


@pytest.mark.usefixtures("worker")
def test_an_image_and_a_request_may_have_so_many_bytes(make_app: MakeApp) -> None:
    client = make_app(max_upload_bytes=100, max_request_bytes=1000).test_client()
    check_error(client.post(PATH, **in_binary(elements(png(1), bytes(101)), count=2)), 413, "Image 2 of 2")
    check_error(client.post(PATH, data=bytes(1001)), 413, "1000 bytes")


@pytest.mark.usefixtures("worker")
def test_with_keys_all_but_the_health_checks_need_one(make_app: MakeApp, tmp_path: Path) -> None:
    key = KeyFile(tmp_path / "keys").add("alice")
    client = make_app(api_keys_file=tmp_path / "keys").test_client()
    for path in ("/v2", MODEL, f"{MODEL}/ready", "/v2/nothing"):
        check_error(client.get(path), 401, "needs an API key")
    check_error(client.post(PATH, json={"inputs": [tensor(png(1))]}), 401)
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert client.get(path).status_code == 200
    headers = {"Authorization": f"Bearer {key}"}
    outputs(client.post(PATH, json={"inputs": [tensor(png(1))]}, headers=headers))


def test_other_sites_pages_may_not_ask(client: FlaskClient, worker: FakeWorker) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
    check_error(client.post(PATH, json={"inputs": [tensor(png(1))]}, headers=headers), 403, "another site")
    assert worker.image_names == []


def test_what_flask_refuses_is_told_as_the_protocol_does(client: FlaskClient) -> None:
    check_error(client.get("/v2/repository/index"), 404)
    check_error(client.get(PATH), 405)
    assert "POST" in client.get(PATH).headers["Allow"]


# Parts of hostile requests: pieces of valid ones, and values of every type where another is expected.
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["image", "BYTES"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_inputs = st.fixed_dictionaries(
    {
        "name": st.just("image") | _values,
        "datatype": st.sampled_from(["BYTES", "UINT8", "FP32"]),
        "shape": st.lists(st.integers(-1, 4) | st.integers(), min_size=1, max_size=4) | _values,
    },
    optional={
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 50) | _values}) | _values,
        "data": _values,
    },
)
_binary = st.lists(st.binary(max_size=12), max_size=3).map(lambda each: elements(*each)) | st.binary(max_size=40)


def parsed(body: bytes, length: str | None) -> requests.Inference | ServiceError:
    """Return the parsed request, or its error."""
    try:
        return requests.parse(body, length, LIMITS)
    except ServiceError as err:
        return err


@given(inputs=st.lists(_inputs, max_size=2) | _values, others=st.dictionaries(st.text(), _values), binary=_binary)
def test_whatever_is_sent_is_read_or_refused(inputs: Any, others: Any, binary: bytes) -> None:
    head = json.dumps({**others, "inputs": inputs}).encode()
    found = parsed(head + binary, str(len(head)))
    if isinstance(found, ServiceError):
        assert found.status in {400, 413}
    else:
        assert len(found.images) == inputs[0]["shape"][0]


@given(body=st.binary(max_size=60), length=st.none() | st.integers(-5, 70).map(str) | st.text(max_size=5))
def test_whatever_the_length_is_it_is_believed_or_refused(body: bytes, length: str | None) -> None:
    found = parsed(body, length)
    if isinstance(found, ServiceError):
        assert found.status == 400
    else:
        assert (found.images, length) == ([body], "0")


@given(images=st.lists(st.binary(max_size=30), min_size=1, max_size=16), column=st.booleans())
def test_binary_elements_are_read_as_they_were_written(images: list[bytes], column: bool) -> None:
    request = in_binary(elements(*images), shape=[len(images), 1] if column else [len(images)])
    assert requests.parse(request["data"], request["headers"][LENGTH], LIMITS).images == images
