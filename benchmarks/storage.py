"""Measures the cost of uploads in a folder and in object storage: per operation, and per request to the API.

`python -m benchmarks.storage` starts a server that speaks S3, or uses the one that `--url` names, and prints a table.
"""

import io
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import click

from api.app import create_app
from api.monitoring.metrics import Metrics
from api.settings import ApiSettings
from benchmarks.metrics import InstantQueue
from benchmarks.table import markdown
from jobs.schema import ModelInfo
from jobs.storage.images import FolderImageStore, ImageStore
from jobs.storage.object_storage import ObjectImageStore
from testing.s3_server import S3Server

_PICTURE = Path(__file__).parents[1] / "tests" / "dog.jpeg"
_BATCH = 8
_HEADER = ("what", "folder, ms", "its processor time", "object storage, ms", "its processor time")


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one call, in milliseconds: elapsed time, and this process's processor time."""

    elapsed_ms: float
    cpu_ms: float

    @classmethod
    def of(cls, work: Callable[[], object], times: int) -> "Cost":
        """Call `work` once for its connections, then `times` times."""
        work()
        started, cpu_started = time.perf_counter(), time.process_time()
        for _ in range(times):
            work()
        cpu_ms = 1000 * (time.process_time() - cpu_started)
        return cls(1000 * (time.perf_counter() - started) / times, cpu_ms / times)


@contextmanager
def _storage(url: str | None) -> Iterator[str]:
    """Yield the URL of object storage, by default of a temporary server."""
    if url:
        yield url
        return
    server = S3Server()
    os.environ |= server.environment
    try:
        yield f"s3://{server.bucket}/uploads"
    finally:
        server.stop()


def _operations(store: ImageStore, data: bytes) -> dict[str, Callable[[], object]]:
    """Return the services' operations on a store."""
    numbers = count()
    names = [f"{number}.jpeg" for number in range(_BATCH)]
    for name in names:
        store.put(name, data)
    return {
        "put an image": lambda: store.put(f"new-{next(numbers)}.jpeg", data),
        "put it again": lambda: store.put(names[0], data),
        "get it": lambda: store.get(names[0]),
        f"get {_BATCH}, one by one": lambda: [store.get(name) for name in names],
        f"get {_BATCH} as a worker does": lambda: [read() for read in store.fetch(names)],
    }


def _request(settings: ApiSettings, data: bytes) -> Callable[[], object]:
    """Return a function that sends another picture each time to an API whose queue answers at once."""
    queue, numbers = InstantQueue(max_jobs=1000), count()
    queue.heartbeat("w1", 0.01, "m1")
    queue.publish(ModelInfo("m1", labels=("Eskimo_dog",)))
    client = create_app(settings, queue, queue.results, Metrics()).test_client()

    def ask() -> None:
        picture = data + next(numbers).to_bytes(4, "big")
        response = client.post("/predict", data={"file": (io.BytesIO(picture), "dog.jpeg")})
        if response.status_code != 200:
            raise click.ClickException(f"/predict answered {response.status_code}: {response.text}")

    return ask


def measure(folder: Path, url: str, times: int) -> list[tuple[str, Cost, Cost]]:
    """Return the costs of every operation, with the folder and with object storage."""
    data = _PICTURE.read_bytes()
    stores = (FolderImageStore(folder / "uploads"), ObjectImageStore(url))
    works = [_operations(store, data) for store in stores]
    common = {"upload_folder": folder / "api", "feedback_filepath": folder / "feedback"}
    for work, upload_url in zip(works, (None, url), strict=True):
        settings = ApiSettings.model_validate({**common, "upload_url": upload_url})
        work["a request to the API, without a worker"] = _request(settings, data)
    in_folder, in_storage = works
    return [(what, Cost.of(in_folder[what], times), Cost.of(in_storage[what], times)) for what in in_folder]


@click.command(context_settings={"show_default": True})
@click.option("--url", help="Object storage, as UPLOAD_URL; by default a server of its own.")
@click.option("--times", default=200, help="How often each is done.")
def main(url: str | None, times: int) -> None:
    """Measure a folder and object storage, for the picture of tests/dog.jpeg."""
    logging.disable()
    with tempfile.TemporaryDirectory() as folder, _storage(url) as address:
        costs = measure(Path(folder), address, times)
    rows = [
        (what, *(f"{ms:.2f}" for cost in both for ms in (cost.elapsed_ms, cost.cpu_ms)))
        for what, *both in costs
    ]  # fmt: skip
    print(markdown(_HEADER, rows))
    print(f"\nMeans of {times}, of a picture of {_PICTURE.stat().st_size} bytes.")


if __name__ == "__main__":
    main()
