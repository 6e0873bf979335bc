"""Fixtures and options of all packages' tests: figures, a real Redis and object storage."""

import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import hypothesis
import pytest

from testing.redis_servers import Cluster, Sentinels, cluster_of_one
from testing.s3_server import S3Server

# The same inputs in every run, everywhere and at any speed; `make fuzz` searches for others.
hypothesis.settings.register_profile("tests", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("tests")

_FIGURES = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add options for tests that need more than Python and make."""
    parser.addoption("--compose", action="store_true", help="run the tests that need a Docker engine")
    parser.addoption("--require-browser", action="store_true", help="fail, not skip, where Chromium is missing")


def pytest_configure() -> None:
    """Ignore settings in this checkout, also in the programs and Compose projects that tests start."""
    os.environ |= {"ENV_FILE": os.devnull, "COMPOSE_DISABLE_ENV_FILE": "1"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the tests that were not asked for."""
    if not config.getoption("--compose"):
        for item, marker in product(items, ("compose", "hosts")):
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=f"needs a Docker engine: run `make test-{marker}`"))


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> list[str]:
    """Measurements of tests: texts that are printed at the end of the run."""
    return pytestconfig.stash.setdefault(_FIGURES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the tests' measurements."""
    if figures := config.stash.get(_FIGURES, []):
        terminalreporter.write_sep("=", "figures")
        terminalreporter.write_line("\n".join(figures))


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[Sentinels]:
    """A master, its replica and their sentinels, for one test."""
    group = Sentinels(tmp_path)
    yield group
    group.stop()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A Redis Cluster, for one test."""
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis that all tests share, in cluster mode, so that keys in several slots are detected."""
    server = cluster_of_one(tmp_path_factory.mktemp("redis"))
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Object storage that all tests share; the tests in the containers' images do without it."""
    pytest.importorskip("moto", reason="speaks S3; it comes with deploy/requirements/dev.txt")
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Object storage that the environment variables point to."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture(scope="session")
def dog() -> bytes:
    """A photo of an Eskimo dog, as a JPEG file."""
    return (Path(__file__).parent / "tests" / "dog.jpeg").read_bytes()
