"""Compressed request bodies."""

import gzip
import io
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.access.keys import KeyFile
from api.http import content_encoding
from api.tests.conftest import FakeWorker, MakeApp
from api.tests.test_predictions import PATH, in_json, png
from jobs.queue.memory import MemoryJobQueue
from jobs.schema import ModelInfo
from runtime.errors import BadEncoding, TooManyBytes, UnsupportedEncoding

INFER = "/v2/models/pets/infer"
FORM = {"content_type": "multipart/form-data; boundary=b"}
JSON = {"content_type": "application/json"}
DATA = bytes(range(256)) * 1000


def raw(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def part(name: str, content: bytes) -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%b\r\n--b--\r\n' % (name.encode(), content)


@pytest.fixture
def queue() -> MemoryJobQueue:
    queue = MemoryJobQueue(max_jobs=8, cache_ttl_s=60)
    queue.publish(ModelInfo("m1", "pets", "7", "f32", 224, 192, "crop", ("cat", "Eskimo_dog")))
    return queue


def feedback_path(client: FlaskClient) -> str:
    answer = client.post(PATH, data=png(9), content_type="image/png").get_json()
    return f"{PATH}/{answer['id']}/feedback"


# Every endpoint that reads a body, a valid body, and the expected status.
REQUESTS: dict[str, tuple[str, bytes, dict[str, Any], int]] = {
    "the page": ("/", part("file", png(1)), FORM, 200),
    "/predict": ("/predict", part("file", png(2)), FORM, 200),
    "a report": ("/feedback", part("report", b"wrong"), FORM, 200),
    "a report as in a URL": ("/feedback", b"report=x", {"content_type": "application/x-www-form-urlencoded"}, 200),
    "a report in JSON": ("/feedback", b'{"report": "x"}', JSON, 200),
    "a form for /v1": (PATH, part("file", png(3)), FORM, 200),
    "an image for /v1": (PATH, png(4), {"content_type": "image/png"}, 200),
    "JSON for /v1": (PATH, json.dumps(in_json(png(5))).encode(), JSON, 200),
    "/v2": (INFER, png(6), {"headers": {"Inference-Header-Content-Length": "0"}}, 200),
    "feedback": ("", b'{"correct": true}', JSON, 201),
}


def post_all(client: FlaskClient, encode: Callable[[bytes], bytes], coding: str) -> dict[str, tuple[int, str]]:
    """Send each request of the table in a coding; return the statuses, and the errors."""
    return {name: post(client, name, encode, coding) for name in REQUESTS}


def post(client: FlaskClient, name: str, encode: Callable[[bytes], bytes], coding: str) -> tuple[int, str]:
    path, body, others, _ = REQUESTS[name]
    headers = {**others.get("headers", {}), "Content-Encoding": coding}
    sent = {**others, "headers": headers, "data": encode(body)}
    response = client.post(path or feedback_path(client), **sent)
    return response.status_code, response.headers.get("X-Error", "")


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("coding", "encode"),
    [
        ("gzip", gzip.compress),
        ("X-GZip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw),
        ("identity, gzip", gzip.compress),
        ("identity", bytes),
        ("", bytes),
    ],
)
def test_a_body_is_decompressed_for_every_endpoint(
    client: FlaskClient, coding: str, encode: Callable[[bytes], bytes]
) -> None:
    assert post_all(client, encode, coding) == {name: (status, "") for name, (*_, status) in REQUESTS.items()}


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "deflate,gzip", "gzip;q=1", "\xff"])
def test_other_codings_are_refused_by_every_endpoint(client: FlaskClient, coding: str) -> None:
    refused = (415, f"unsupported-encoding: {UnsupportedEncoding.message}")
    assert post_all(client, bytes, coding) == dict.fromkeys(REQUESTS, refused)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        (lambda data: gzip.compress(data)[:-1], "ends before its end"),
        (lambda data: gzip.compress(data)[:15], "ends before its end"),
        (lambda data: gzip.compress(data)[:-8] + bytes(8), "damaged"),
        (lambda data: gzip.compress(data) + b"\0", "more behind its end"),
        (lambda data: gzip.compress(data) + gzip.compress(data), "more behind its end"),
        (bytes, "damaged"),
        (zlib.compress, "damaged"),
    ],
)
def test_a_damaged_body_is_refused_by_every_endpoint(
    client: FlaskClient, damaged: Callable[[bytes], bytes], words: str
) -> None:
    for status, error in post_all(client, damaged, "gzip").values():
        assert (status, error.partition(":")[0]) == (400, "bad-encoding")
        assert words in error


@pytest.mark.usefixtures("worker")
def test_what_becomes_too_large_is_refused_by_every_endpoint(make_app: MakeApp) -> None:
    client = make_app(max_upload_bytes=100_000, max_request_bytes=200_000).test_client()
    for status, error in post_all(client, lambda data: gzip.compress(data + bytes(300_000)), "gzip").values():
        assert (status, error.partition(":")[0]) == (413, "too-many-bytes")


def test_an_answer_says_which_codings_are_accepted(client: FlaskClient) -> None:
    response = client.post(
        "/predict", data=b"x", content_type="multipart/form-data", headers={"Content-Encoding": "br"}
    )
    assert response.get_json() == {"success": False, "prediction": None, "score": None}
    assert response.headers["Accept-Encoding"] == "gzip, deflate"


@pytest.mark.parametrize("coding", content_encoding.SUPPORTED)
def test_no_body_is_none_in_any_coding(coding: str) -> None:
    assert content_encoding.decode(io.BytesIO(), coding, 10).read() == b""


@pytest.mark.parametrize("encode", [zlib.compress, raw])
@pytest.mark.parametrize("data", [b"", b"a", DATA, bytes(10_000_000)], ids=len)
def test_a_body_is_whole(data: bytes, encode: Callable[[bytes], bytes]) -> None:
    assert content_encoding.decode(io.BytesIO(encode(data)), "deflate", len(data)).read() == data


@pytest.mark.parametrize("limit", [0, 1, 65_535, 65_536, 999_999])
def test_no_more_is_decompressed_than_the_limit(limit: int) -> None:
    compressed = io.BytesIO(gzip.compress(bytes(50_000_000), 1))
    with pytest.raises(TooManyBytes):
        content_encoding.decode(compressed, "gzip", limit)
    assert compressed.tell() <= 2 * 65_536


@pytest.mark.parametrize(("coding", "encode"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", raw)])
def test_a_body_that_is_cut_anywhere_is_refused(coding: str, encode: Callable[[bytes], bytes]) -> None:
    compressed = encode(b"a text")
    for size in range(1, len(compressed)):
        with pytest.raises(BadEncoding):
            content_encoding.decode(io.BytesIO(compressed[:size]), coding, 100)


def test_a_stranger_has_nothing_decompressed(
    make_app: MakeApp, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    keys = tmp_path / "keys"
    KeyFile(keys).add("somebody")
    monkeypatch.setattr(content_encoding, "decode", None)
    client = make_app(api_keys_file=keys).test_client()
    answers = [post(client, name, gzip.compress, "gzip") for name in REQUESTS if name != "feedback"]
    assert {status for status, _ in answers} == {401}
    assert worker.image_names == []
