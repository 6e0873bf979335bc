"""Object storage for tests."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import requests

from mlapi.service import redis_server
from runtime import parent_watch


class S3Server:
    """An S3 server for tests, with one bucket; when stopped, it forgets everything."""

    bucket = "pictures"

    def __init__(self) -> None:
        self._port = redis_server.free_port()
        self.endpoint = f"http://127.0.0.1:{self._port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "an-id",
            "AWS_SECRET_ACCESS_KEY": "a-secret",
            "AWS_REGION": "eu-central-1",
        }
        self.start()

    def start(self) -> None:
        """Start, and return when the bucket exists; fail if there is none within a minute."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "--port", str(self._port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=parent_watch.ending_with_starter(),
        )
        deadline = time.monotonic() + 60
        while not self._make_bucket():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def _make_bucket(self) -> bool:
        try:
            return requests.put(f"{self.endpoint}/{self.bucket}", timeout=10).ok
        except requests.ConnectionError:
            return False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Suspend all answers meanwhile."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.resume()

    def resume(self) -> None:
        """Answer again."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop at once."""
        self._process.kill()
        self._process.wait(10)
