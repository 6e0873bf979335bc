"""Asynchronous predictions: they complete even if processes are killed meanwhile."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from testing.images import DOG
from testing.redis_servers import wait_until_written
from tests.conftest import MakeService, Service, until

LATER = {"Prefer": "respond-async"}


def submit(service: Service, **headers: str) -> str:
    """Submit a picture for later; return the address of its prediction."""
    response = requests.post(
        f"{service.url}/v1/predictions", files={"file": ("dog.jpeg", DOG)}, headers={**LATER, **headers}, timeout=60
    )
    assert response.status_code == 202, response.text
    return service.url + response.headers["Location"]


def read(address: str, wait_s: int = 0) -> Any:
    """Return a prediction, or None if the service or a part it needs does not answer."""
    try:
        response = requests.get(address, params={"wait": wait_s}, timeout=wait_s + 30)
    except requests.ConnectionError:
        return None
    assert response.status_code in {200, 503}, response.text
    return response.json() if response.status_code == 200 else None


def is_right(prediction: Any) -> bool:
    return bool(
        prediction
        and prediction["status"] == "done"
        and prediction["results"][0]["predictions"][0]["label"] == "Eskimo_dog"
    )


def comes(address: str) -> bool:
    """Return whether a prediction comes, retrying after broken connections."""
    return until(lambda: is_right(read(address, wait_s=5)), 90)


def test_a_prediction_comes_to_who_waits_for_it_and_is_there_for_others(make_service: MakeService) -> None:
    service = make_service(INSTANCES="1").wait_until_ready()
    address = submit(service)
    assert is_right(read(address, wait_s=60))
    assert is_right(read(address))
    assert read(address)["model"]["name"] == "efficientnet-lite0"


def test_predictions_outlive_kill_9_of_all_workers_and_of_the_api(make_service: MakeService) -> None:
    service = make_service(INSTANCES="2").wait_until_ready()
    service.kill("mlapi worker", signal.SIGSTOP)
    addresses = [submit(service) for _ in range(4)]
    service.kill("mlapi worker", signal.SIGKILL)
    service.kill("mlapi api", signal.SIGKILL)
    assert all(comes(address) for address in addresses), service.log


def test_the_image_of_a_prediction_to_come_stays_though_its_time_is_over(make_service: MakeService) -> None:
    service = make_service(INSTANCES="1").wait_until_ready()
    uploads = service.folder / "uploads"
    service.pause_workers()
    address = submit(service)
    (uploads / f"{0:064x}.jpg").write_bytes(b"that nobody asks for")
    for upload in uploads.glob("*.jpg"):
        os.utime(upload, (0, 0))
    service.kill("mlapi api", signal.SIGKILL)  # it sweeps when it starts
    assert until(lambda: "old uploads removed count=1" in service.log, 60), service.log
    service.kill("mlapi worker", signal.SIGCONT)
    assert comes(address), service.log


def redis_folder(tmp_path: Path) -> str:
    """Return a folder within the first service's own, by which its Redis is recognised as one of its processes."""
    return str(tmp_path / "0" / "redis")


@pytest.mark.parametrize("moment", ["waiting", "done"])
def test_predictions_outlive_kill_9_of_a_redis_that_keeps_a_log(
    make_service: MakeService, tmp_path: Path, moment: str
) -> None:
    service = make_service(INSTANCES="1", REDIS_FOLDER=redis_folder(tmp_path)).wait_until_ready()
    if moment == "waiting":
        service.kill("mlapi worker", signal.SIGSTOP)
    address = submit(service)
    if moment == "done":
        assert comes(address)
    with service.redis() as connection:
        wait_until_written(connection)
    [redis] = service.processes("redis-server")
    os.kill(redis, signal.SIGKILL)
    assert until(lambda: set(service.processes("redis-server")) - {redis}, 30), service.log
    service.kill("mlapi worker", signal.SIGCONT)
    assert comes(address), service.log


def test_predictions_outlive_the_whole_service(make_service: MakeService, tmp_path: Path) -> None:
    environment = {
        "INSTANCES": "1",
        "REDIS_FOLDER": redis_folder(tmp_path),
        "UPLOAD_FOLDER": str(tmp_path / "uploads"),
    }
    first = make_service(**environment).wait_until_ready()
    first.kill("mlapi worker", signal.SIGSTOP)
    address = submit(first)
    with first.redis() as connection:
        wait_until_written(connection)
    first.kill("", signal.SIGKILL)
    assert until(lambda: first.processes() == [], 30)
    again = make_service(**environment).wait_until_ready()
    assert comes(address.replace(first.url, again.url)), again.log


def test_a_request_is_answered_once_though_the_api_is_killed_in_between(make_service: MakeService) -> None:
    service = make_service(INSTANCES="1").wait_until_ready()
    key = {"Idempotency-Key": "order-7"}
    address = submit(service, **key)
    service.kill("mlapi api", signal.SIGKILL)
    assert until(lambda: is_right(read(address)), 90), service.log
    assert submit(service, **key) == address


@contextmanager
def receiver() -> Iterator[tuple[str, list[Any]]]:
    """Yield the URL of a server, and the data posted to it; its first answer is an error."""
    received: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204 if len(received) > 1 else 500)
            self.end_headers()

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", received
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_webhook_is_sent_again_though_the_api_is_killed_in_between(make_service: MakeService) -> None:
    environment = {"WEBHOOK_SECRET": "a secret of the tests' own", "WEBHOOK_ALLOW_PRIVATE": "true"}
    service = make_service(INSTANCES="1", **environment).wait_until_ready()
    with receiver() as (url, received):
        form = {"webhook": url}
        files = {"file": ("dog.jpeg", DOG)}
        response = requests.post(f"{service.url}/v1/predictions", files=files, data=form, headers=LATER, timeout=60)
        assert response.status_code == 202, response.text
        assert until(lambda: received, 60), service.log
        service.kill("mlapi api", signal.SIGKILL)
        assert until(lambda: len(received) > 1, 90), service.log
    assert [each["id"] for each in received] == 2 * [response.json()["id"]]
    assert is_right(received[1])


def test_who_waits_for_a_prediction_does_not_keep_the_service_from_stopping(make_service: MakeService) -> None:
    service = make_service(INSTANCES="1").wait_until_ready()
    service.kill("mlapi worker", signal.SIGSTOP)
    address = submit(service)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(requests.get, address, params={"wait": 60}, timeout=60)
        assert until(lambda: service.queued_jobs() == 1, 20)
        service.process.terminate()
        response = answer.result()
    service.kill("mlapi worker", signal.SIGCONT)
    assert (response.status_code, response.json()["status"]) in {(200, "pending"), (200, "done")}
    assert service.process.wait(30) == 0
