"""Fixtures for the tests of every package: a real Redis, started for the tests."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from mlapi import redis_server


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Redis of these tests' own."""
    port = redis_server.free_port()
    process = subprocess.Popen(redis_server.command(port, tmp_path_factory.mktemp("redis")), stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}"
    wait_for_redis(url)
    yield url
    process.terminate()
    process.wait(10)


def wait_for_redis(url: str) -> None:
    """Return when Redis answers; raise `redis.ConnectionError` when it does not within 10 s."""
    with redis.Redis.from_url(url, retry=Retry(ConstantBackoff(0.05), retries=200)) as connection:
        connection.ping()


@pytest.fixture(scope="session")
def dog() -> bytes:
    """A photo of an Eskimo dog, as a JPEG file."""
    return (Path(__file__).parent / "tests" / "dog.jpeg").read_bytes()
