"""The memory that one request takes of an API process: at most three times its size, plus a constant."""

import base64
import gzip
import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from api.settings import ApiSettings
from api.tests.conftest import DOG
from jobs.redis.queue import RedisJobQueue
from jobs.schema import ModelInfo
from mlapi.service.redis_server import free_port
from runtime import parent_watch

FILE_BYTES, REQUEST_BYTES = 9_900_000, 19_900_000
# The parsed size of JSON that is no image, and what the server and the C library hold back.
SPARE_BYTES = 12_000_000


class Api:
    """A running API with one process."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        environment = {
            "PORT": str(port),
            "REDIS_URL": redis_url,
            "UPLOAD_FOLDER": str(folder / "uploads"),
            "FEEDBACK_FILEPATH": str(folder / "feedback" / "feedback"),
            # The C library returns freed memory at once, so that no request reuses what another left.
            "MALLOC_MMAP_THRESHOLD_": "65536",
            "MALLOC_TRIM_THRESHOLD_": "65536",
        }
        self._server = subprocess.Popen(
            [sys.executable, "-m", "mlapi", "api"],
            env={**os.environ, **environment},
            preexec_fn=parent_watch.ending_with_starter(),
        )
        self._wait_until_it_answers()
        pid = self._server.pid
        [self._process, *_] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                requests.get(f"{self.url}/livez", timeout=10)
                return
            except requests.ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def memory_bytes(self, line: str) -> int:
        """Return one of the kernel's figures of the process's memory."""
        lines = Path(f"/proc/{self._process}/status").read_text().splitlines()
        [size] = [words.split()[1] for words in lines if words.startswith(f"{line}:")]
        return 1024 * int(size)

    def forget_peak(self) -> None:
        """Reset the peak, `VmHWM`."""
        Path(f"/proc/{self._process}/clear_refs").write_text("5")

    def stop(self) -> None:
        self._server.terminate()
        self._server.wait(60)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Api]:
    """Run an API, and a worker that answers at once."""
    queue, stopped = RedisJobQueue.from_settings(ApiSettings(redis_url=redis_url)), threading.Event()
    queue.publish(ModelInfo("m1", "pets", labels=("Eskimo_dog", "malamute")))
    queue.heartbeat("w1", 0.01, "m1")

    def run() -> None:
        while not stopped.is_set():
            queue.heartbeat("w1", 0.01, "m1")
            queue.finish([(delivery, DOG) for delivery in queue.take_batch("w1", 10, 0.05)])

    thread = threading.Thread(target=run)
    thread.start()
    api = Api(tmp_path_factory.mktemp("api"), redis_url)
    yield api
    api.stop()
    stopped.set()
    thread.join()
    queue.retire("w1")
    queue.close()


def image(size: int) -> bytes:
    """Return data of a given size that the API takes for a PNG file."""
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\2\0\0\0\2\x08\2\0\0\0" + bytes(4) + struct.pack(">I", size) + b"IDAT"
    return head + os.urandom(size - len(head))


def form(*parts: tuple[str, bytes]) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'
    return b"".join(head % name.encode() + data + b"\r\n" for name, data in parts) + b"--b--\r\n"


def files(*images: bytes) -> bytes:
    return form(*((f'file"; filename="{number}.png', data) for number, data in enumerate(images)))


def lines(data: bytes, end: str) -> str:
    """Return base64 in lines, as JSON has it."""
    return base64.encodebytes(data).decode().replace("\n", end)


def tensor(shape: list[int], data: object, datatype: str = "UINT8") -> bytes:
    return json.dumps({"inputs": [{"name": "image", "datatype": datatype, "shape": shape, "data": data}]}).encode()


def filled(begin: str, repeated: str, end: str = "", size: int = REQUEST_BYTES) -> bytes:
    """Return a body of a given size that repeats a part, possibly cut off at the end."""
    return (begin + repeated * ((size - len(begin)) // len(repeated.encode())) + end).encode()


@dataclass(frozen=True)
class Sent:
    """A request and its expected status."""

    path: str
    status: int
    body: Callable[[], bytes]
    headers: dict[str, str] = field(default_factory=dict)
    in_chunks: bool = False
    becomes_bytes: int = 0  # if it is compressed


FORM = {"Content-Type": "multipart/form-data; boundary=b"}
IN_URL = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
PNG = {"Content-Type": "image/png"}
GZIP = {"Content-Encoding": "gzip"}
ALONE = {"Inference-Header-Content-Length": "0"}
V1, V2 = "/v1/predictions", "/v2/models/pets/infer"
TEXT_BYTES = 7_400_000  # of an image; a request has two, in base64


def of_v1(*texts: str) -> bytes:
    return b'{"images":[%s]}' % b",".join(b'{"data":"%s"}' % text.encode() for text in texts)


def binary(shape: list[int], datatype: str, status: int, size: int, data: Callable[[int], bytes]) -> Sent:
    described = {"name": "image", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [described]}).encode()
    return Sent(V2, status, lambda: head + data(size), {"Inference-Header-Content-Length": str(len(head))})


def elements(*images: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(each)) + each for each in images)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


SENT = {
    "a picture in a form": Sent("/predict", 200, lambda: files(image(FILE_BYTES)), FORM),
    "a picture in a form, in chunks": Sent("/predict", 200, lambda: files(image(FILE_BYTES)), FORM, in_chunks=True),
    "a picture for the page": Sent("/", 200, lambda: files(image(FILE_BYTES)), FORM),
    "a form of many parts": Sent("/predict", 413, lambda: form(*[("x", b"y")] * 150_000), FORM),
    "a picture of boundaries": Sent("/predict", 400, lambda: files(b"\r\n--" * (FILE_BYTES // 4)), FORM),
    "a picture of line ends": Sent("/predict", 400, lambda: files(b"\r" * FILE_BYTES), FORM),
    "a large field": Sent("/predict", 413, lambda: form(("note", bytes(FILE_BYTES))), FORM),
    "a field for a picture": Sent("/predict", 413, lambda: form(("file", bytes(FILE_BYTES))), FORM),
    "a form as in a URL": Sent("/predict", 413, lambda: filled("file=", "%41", size=FILE_BYTES), IN_URL),
    "fields as in a URL": Sent("/", 413, lambda: filled("", "a=b&", size=FILE_BYTES), IN_URL),
    "a body of another type": Sent("/predict", 400, lambda: image(FILE_BYTES), PNG),
    "pictures in a form": Sent(V1, 200, lambda: files(image(FILE_BYTES), image(FILE_BYTES)), FORM),
    "a picture": Sent(V1, 200, lambda: image(FILE_BYTES), PNG),
    "a picture, in chunks": Sent(V1, 200, lambda: image(FILE_BYTES), PNG, in_chunks=True),
    "too large a picture": Sent(V1, 413, lambda: image(REQUEST_BYTES), PNG),
    "base64": Sent(V1, 200, lambda: of_v1(b64(image(TEXT_BYTES)), b64(image(TEXT_BYTES))), JSON),
    "base64 and a query": Sent(f"{V1}?top_k=1", 200, lambda: of_v1(b64(image(TEXT_BYTES))), JSON),
    "base64 in lines": Sent(V1, 200, lambda: of_v1(lines(image(TEXT_BYTES), "\\n")), JSON),
    "base64 in chunks": Sent(V1, 200, lambda: of_v1(b64(image(TEXT_BYTES))), JSON, in_chunks=True),
    "base64 with escapes": Sent(V1, 200, lambda: of_v1(b64(image(FILE_BYTES)).replace("/", r"\/")), JSON),
    "base64 in a data: URL": Sent(V1, 200, lambda: of_v1(f"data:image/png;base64,{b64(image(FILE_BYTES))}"), JSON),
    "base64 in a data: URL with percents": Sent(
        V1, 200, lambda: of_v1(f"data:image/png;base64,{b64(image(FILE_BYTES))}".replace("+", "%2B")), JSON
    ),
    "base64 for URLs, without padding": Sent(
        V1, 200, lambda: of_v1(base64.urlsafe_b64encode(image(FILE_BYTES)).decode().rstrip("=")), JSON
    ),
    "base64 with all that may be in it": Sent(
        V1, 400, lambda: of_v1("data:image/png;base64," + r"AAAA\/%2B-_AA%0A\n" * (REQUEST_BYTES // 20)), JSON
    ),
    "base64 in many lines": Sent(V1, 400, lambda: of_v1(r"\n" * (REQUEST_BYTES // 2)), JSON),
    "base64 beyond a picture's size": Sent(V1, 413, lambda: of_v1("A" * REQUEST_BYTES), JSON),
    "a text that is no base64": Sent(V1, 413, lambda: filled('{"images":[{"data":"', "A", "🦊"), JSON),
    "names": Sent(V1, 413, lambda: filled("{", '"x":1,'), JSON),
    "a list of numbers": Sent(V1, 413, lambda: filled('{"images":[', "0,"), JSON),
    "as many numbers as are read": Sent(V1, 400, lambda: filled('{"images":[0', ",0", "]}", 600_000), JSON),
    "a list of objects": Sent(V1, 413, lambda: filled('{"images":[', "{},"), JSON),
    "deep lists": Sent(V1, 413, lambda: filled('{"images":', "["), JSON),
    "white space": Sent(V1, 413, lambda: filled("{", " "), JSON),
    "emoji": Sent(V1, 400, lambda: filled('{"images":[{"data":"', "🦊", '"}]}', 3_999_000), JSON),
    "an image alone": Sent(V2, 200, lambda: image(FILE_BYTES), ALONE),
    "encoded images": binary(
        [2], "BYTES", 200, 2 * (4 + FILE_BYTES), lambda _: elements(image(FILE_BYTES), image(FILE_BYTES))
    ),
    "pixels": binary([2, 1790, 1790, 3], "UINT8", 200, 2 * 1790 * 1790 * 3, os.urandom),
    "narrow pixels": binary([1, 65_535, 50, 3], "UINT8", 200, 65_535 * 50 * 3, os.urandom),
    "narrower pixels": binary([1, 3_300_000, 1, 3], "UINT8", 413, 9_900_000, bytes),
    "base64 in a tensor": Sent(
        V2, 200, lambda: tensor([2], [b64(image(TEXT_BYTES)), b64(image(TEXT_BYTES))], "BYTES"), JSON
    ),
    "numbers": Sent(V2, 200, lambda: tensor([1, 300, 333, 3], [7] * 299_700), JSON),
    "pixels as lists": Sent(V2, 200, lambda: tensor([1, 200, 333, 3], [[[[7, 8, 9]] * 333] * 200]), JSON),
    "too many numbers": Sent(V2, 413, lambda: filled('{"inputs":[{"data":[', "0,"), JSON),
    "as many lists as are read": Sent(V2, 400, lambda: filled('{"inputs":[[]', ",[]", "]}", 299_000), JSON),
    "a compressed form": Sent("/predict", 200, lambda: gzip.compress(files(image(FILE_BYTES)), 1), {**FORM, **GZIP}),
    "compressed pictures": Sent(
        V1, 200, lambda: gzip.compress(files(image(FILE_BYTES), image(FILE_BYTES)), 1), {**FORM, **GZIP}
    ),
    "compressed base64": Sent(
        V1,
        200,
        lambda: gzip.compress(of_v1(b64(image(TEXT_BYTES))), 1),
        {**JSON, **GZIP},
        becomes_bytes=4 * TEXT_BYTES // 3,
    ),
    "a compressed form of zeros": Sent(
        "/predict",
        200,
        lambda: gzip.compress(files(image(FILE_BYTES)[:100] + bytes(FILE_BYTES - 100))),
        {**FORM, **GZIP},
        False,
        FILE_BYTES,
    ),
    "what becomes too large": Sent(
        V1, 413, lambda: gzip.compress(bytes(100_000_000), 1), {**PNG, **GZIP}, becomes_bytes=REQUEST_BYTES
    ),
    "a report": Sent("/feedback", 413, lambda: form(("report", b"x" * FILE_BYTES)), FORM),
    "a report as in a URL": Sent("/feedback", 413, lambda: filled("report=", "x", size=FILE_BYTES), IN_URL),
    "a report in JSON": Sent("/feedback", 413, lambda: filled('{"report":"', "🦊", '"}', FILE_BYTES), JSON),
    "feedback": Sent(f"{V1}/x/feedback", 413, lambda: filled('{"comment":"', "🦊", '"}'), JSON),
}


@pytest.mark.parametrize("name", SENT)
def test_a_request_takes_at_most_three_times_its_size_of_memory(api: Api, name: str, figures: list[str]) -> None:
    sent = SENT[name]
    body = sent.body()
    before = api.memory_bytes("VmRSS")
    api.forget_peak()
    pieces = (body[start : start + 65_536] for start in range(0, len(body), 65_536))
    data = pieces if sent.in_chunks else body
    answer = requests.post(f"{api.url}{sent.path}", data=data, headers=sent.headers, timeout=60)
    taken = api.memory_bytes("VmHWM") - before
    figures.append(f"{name}: {taken / 1e6:.1f} MB for {len(body) / 1e6:.1f} MB: {taken / len(body):.2f}")
    assert (answer.status_code, len(answer.content) < 100_000) == (sent.status, True), answer.text[:1000]
    assert taken <= 3 * max(len(body), sent.becomes_bytes) + SPARE_BYTES
