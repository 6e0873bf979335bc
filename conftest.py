"""What the tests of every package share: options, and a real Redis and object storage, started for them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest
import redis
import requests
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from jobs import lifeline
from mlapi import redis_server

# The same inputs in every run, wherever it is, however slow; `make fuzz` looks for others.
hypothesis.settings.register_profile("tests", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the caller ask for tests that need more than Python and make."""
    parser.addoption("--compose", action="store_true", help="run the tests that need a Docker engine")
    parser.addoption("--require-browser", action="store_true", help="fail, not skip, where Chromium is missing")


def pytest_configure() -> None:
    """Leave out the settings that are kept here, also in the programs and Compose projects that tests start."""
    os.environ |= {"ENV_FILE": os.devnull, "COMPOSE_DISABLE_ENV_FILE": "1"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what was not asked for."""
    if not config.getoption("--compose"):
        for item in items:
            if item.get_closest_marker("compose"):
                item.add_marker(pytest.mark.skip(reason="needs a Docker engine: run `make test-compose`"))


def wait_until_written(connection: "redis.Redis") -> None:
    """Return when all of a Redis's log is in its file, which it may put off while the disk is slow."""
    deadline = time.monotonic() + 30
    while any(connection.info("persistence")[name] for name in ("aof_buffer_length", "aof_pending_bio_fsync")):
        assert time.monotonic() < deadline
        time.sleep(0.01)


class RedisServer:
    """A Redis of the tests' own, which they may stop and start again; it forgets everything, or `keeps` it."""

    def __init__(self, folder: Path, *, keeps: bool = False) -> None:
        self._folder = folder
        self._kept = folder if keeps else None
        self._port = redis_server.free_port()
        self.url = f"redis://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Start, and return when it answers; raise `redis.ConnectionError` when it does not within a minute."""
        self._process = subprocess.Popen(
            redis_server.command(self._port, self._folder, self._kept), preexec_fn=lifeline.ending_with_starter()
        )
        with redis.Redis.from_url(self.url, retry=Retry(ConstantBackoff(0.05), retries=1200)) as connection:
            connection.ping()

    def stop(self) -> None:
        """Stop at once, but with all in the log of one that keeps it."""
        if self._kept:
            with redis.Redis.from_url(self.url) as connection:
                wait_until_written(connection)
        self._process.kill()
        self._process.wait(10)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Redis that all tests share."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server.url
    server.stop()


class S3Server:
    """Object storage of the tests' own that speaks S3, with a bucket; stopped, it forgets everything."""

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
        """Start, and return when there is a bucket; fail when there is none within a minute."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "--port", str(self._port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=lifeline.ending_with_starter(),
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
        """Have nothing answered meanwhile."""
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


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Object storage that all tests share; the tests in the containers' images go without."""
    pytest.importorskip("moto", reason="speaks S3; it comes with requirements/dev.txt")
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Object storage that the environment leads to."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture(scope="session")
def dog() -> bytes:
    """A photo of an Eskimo dog, as a JPEG file."""
    return (Path(__file__).parent / "tests" / "dog.jpeg").read_bytes()
