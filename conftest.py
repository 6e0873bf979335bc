"""What the tests of every package share: options, figures, and a real Redis and object storage, started for them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import hypothesis
import pytest
import redis
import requests
from redis.backoff import ConstantBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.retry import Retry

from mlapi.service import redis_server
from runtime import parent_watch as lifeline

# The same inputs in every run, wherever it is, however slow; `make fuzz` looks for others.
hypothesis.settings.register_profile("tests", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("tests")

_FIGURES = pytest.StashKey[list[str]]()


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
        for item, marker in product(items, ("compose", "hosts")):
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=f"needs a Docker engine: run `make test-{marker}`"))


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> list[str]:
    """What tests have measured: texts that the run ends with."""
    return pytestconfig.stash.setdefault(_FIGURES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what the tests have measured."""
    if figures := config.stash.get(_FIGURES, []):
        terminalreporter.write_sep("=", "figures")
        terminalreporter.write_line("\n".join(figures))


def wait_until_written(connection: "redis.Redis") -> None:
    """Return when all of a Redis's log is in its file, which it may put off while the disk is slow."""
    deadline = time.monotonic() + 30
    while any(connection.info("persistence")[name] for name in ("aof_buffer_length", "aof_pending_bio_fsync")):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def free_node_port() -> int:
    """Return a free port for a Redis that may be a node of a cluster: others reach it at one higher by 10,000."""
    return next(port for port in iter(redis_server.free_port, None) if port < 55_000)


class RedisServer:
    """A Redis of the tests' own, which they may stop and start again; it forgets everything, or `keeps` it."""

    def __init__(self, folder: Path, *options: str, keeps: bool = False) -> None:
        self._folder, self._options = folder, options
        self._kept = folder if keeps else None
        self._port = free_node_port()
        self.url = f"redis://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Start, and return when it answers; raise `redis.ConnectionError` when it does not within a minute."""
        self._process = subprocess.Popen(
            [*redis_server.command(self._port, self._folder, self._kept), *self._options],
            preexec_fn=lifeline.ending_with_starter(),
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


def cluster_of_one(folder: Path, *options: str) -> RedisServer:
    """Return a Redis in cluster mode that has all slots: it refuses what names keys of several at once."""
    server = RedisServer(folder, "--cluster-enabled", "yes", *options)
    with redis.Redis.from_url(server.url) as connection:
        connection.execute_command("CLUSTER ADDSLOTS", *range(REDIS_CLUSTER_HASH_SLOTS))
        deadline = time.monotonic() + 60
        while connection.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
            assert time.monotonic() < deadline
            time.sleep(0.05)
    return server


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Sentinels:
    """A Redis, a replica that follows it, and three sentinels, of which two must agree that the master is dead."""

    PASSWORD = "the redis's"  # noqa: S105 - of a test
    SENTINEL_PASSWORD = "the sentinels'"  # noqa: S105

    def __init__(self, folder: Path) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self.master, self.replica = redis_server.free_port(), redis_server.free_port()
        self._start_redis(folder / "master", self.master)
        self._start_redis(folder / "replica", self.replica, "--replicaof", "127.0.0.1", str(self.master))
        _wait_until(lambda: self.info(self.replica)["master_link_status"] == "up")
        self.ports = [redis_server.free_port() for _ in range(3)]
        for port in self.ports:
            self._start_sentinel(folder / str(port), port)
        # A sentinel that knows no other cannot agree with any.
        _wait_until(lambda: all(self._knows_all(port) for port in self.ports))
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        options = urlencode({"sentinel_password": self.SENTINEL_PASSWORD})
        self.url = f"redis+sentinel://:{quote(self.PASSWORD)}@{hosts}/queue?{options}"

    def info(self, port: int) -> dict[str, Any]:
        """Return what a Redis says of its replication."""
        with self.connection(port) as connection:
            found: dict[str, Any] = connection.info("replication")
            return found

    def connection(self, port: int) -> "redis.Redis":
        """Return a connection to one Redis, whichever part it plays."""
        return redis.Redis(port=port, password=self.PASSWORD, retry=Retry(ConstantBackoff(0.05), retries=200))

    def kill_master(self) -> None:
        """Let the master die without a word."""
        self._processes[0].kill()
        self._processes[0].wait(10)

    def kill_sentinel(self, number: int) -> None:
        """Let a sentinel die without a word."""
        self._processes[2 + number].kill()
        self._processes[2 + number].wait(10)

    def promote(self) -> None:
        """Have the sentinels put the replica in the master's place, which is well."""
        with self._sentinel(self.ports[0]) as sentinel:
            sentinel.execute_command("SENTINEL FAILOVER", "queue")

    def wait_for_promotion(self) -> None:
        """Return when the replica is the master."""
        _wait_until(lambda: self.info(self.replica)["role"] == "master")

    def stop(self) -> None:
        """End all of them, the sentinels first."""
        for process in reversed(self._processes):
            process.kill()
            process.wait(10)

    def _start_redis(self, folder: Path, port: int, *options: str) -> None:
        folder.mkdir()
        passwords = ("--requirepass", self.PASSWORD, "--masterauth", self.PASSWORD)
        self._start([*redis_server.command(port, folder), *passwords, "--repl-diskless-sync-delay", "0", *options])
        with self.connection(port) as connection:
            connection.ping()

    def _start_sentinel(self, folder: Path, port: int) -> None:
        folder.mkdir()
        file = folder / "sentinel.conf"
        file.write_text(f"""\
bind 127.0.0.1
port {port}
dir {folder}
logfile {folder / redis_server.LOG_FILE}
requirepass "{self.SENTINEL_PASSWORD}"
sentinel monitor queue 127.0.0.1 {self.master} 2
sentinel auth-pass queue "{self.PASSWORD}"
sentinel down-after-milliseconds queue 500
sentinel failover-timeout queue 5000
""")
        self._start([redis_server.find_program(), str(file), "--sentinel"])

    def _start(self, command: Sequence[str]) -> None:
        self._processes.append(subprocess.Popen(command, preexec_fn=lifeline.ending_with_starter()))

    def _sentinel(self, port: int) -> "redis.Redis":
        retry = Retry(ConstantBackoff(0.05), retries=200)
        return redis.Redis(port=port, password=self.SENTINEL_PASSWORD, retry=retry)

    def _knows_all(self, port: int) -> bool:
        with self._sentinel(port) as sentinel:
            master: Any = sentinel.sentinel_master("queue")
            return bool(master["num-other-sentinels"] == len(self.ports) - 1 and master["num-slaves"] == 1)


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[Sentinels]:
    """A master, its replica and their sentinels, of the test's own."""
    group = Sentinels(tmp_path)
    yield group
    group.stop()


class Cluster:
    """A Redis Cluster: three masters, of which the first has the slot of the project's keys, and its replica."""

    PASSWORD = "the cluster's"  # noqa: S105 - of a test
    SLOT = key_slot(b"{mlapi}")

    def __init__(self, folder: Path) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self.ports = [self._start(folder / f"node-{number}") for number in range(4)]
        owner, *others, replica = self.ports
        # Each with an epoch of its own, or they had to agree first on who has which slots.
        for epoch, port in enumerate(self.ports, 1):
            self.ask(port, "CLUSTER SET-CONFIG-EPOCH", epoch)
            self.ask(port, "CLUSTER MEET", "127.0.0.1", owner)
        bounds = 0, 1000, 2000, REDIS_CLUSTER_HASH_SLOTS
        for port, first, after in zip((*others, owner), bounds, bounds[1:], strict=False):
            self.ask(port, "CLUSTER ADDSLOTS", *range(first, after))
        _wait_until(lambda: all(self.names(port) == set(self.ports) for port in self.ports))
        self.ask(replica, "CLUSTER REPLICATE", self.ask(owner, "CLUSTER MYID"))
        _wait_until(lambda: b"master_link_status:up" in self.ask(replica, "INFO", "replication"))
        _wait_until(lambda: all(self.holders(port) == [owner, replica] for port in self.ports))
        _wait_until(lambda: all(b"cluster_state:ok" in self.ask(port, "CLUSTER INFO") for port in self.ports))
        self.url = self.node_url(owner).replace("redis:", "redis+cluster:")

    def connection(self, port: int) -> "redis.Redis":
        """Return a connection to one node, whichever part it plays."""
        return redis.Redis(port=port, password=self.PASSWORD, retry=Retry(ConstantBackoff(0.05), retries=200))

    def node_url(self, port: int) -> str:
        """Return the address of one node."""
        return f"redis://:{quote(self.PASSWORD)}@127.0.0.1:{port}"

    def ask(self, port: int, *command: object) -> Any:  # noqa: ANN401 - what the command gives
        """Return what a node answers."""
        with self.connection(port) as connection:
            connection.response_callbacks.clear()
            return connection.execute_command(*command)

    def names(self, port: int) -> set[int]:
        """Return the ports of the nodes that a node knows."""
        lines = self.ask(port, "CLUSTER NODES").decode().splitlines()
        return {int(line.split()[1].partition("@")[0].rpartition(":")[2]) for line in lines}

    def holders(self, port: int) -> list[int]:
        """Return the ports of the master that has the slot and of its replica, as a node knows them."""
        slots = self.ask(port, "CLUSTER SLOTS")
        return [node[1] for first, last, *nodes in slots if first <= self.SLOT <= last for node in nodes]

    def kill_master(self) -> None:
        """Let the master that has the slot die without a word."""
        self._processes[0].kill()
        self._processes[0].wait(10)

    def wait_for_promotion(self) -> None:
        """Return when every node that lives knows that the replica has the slot."""
        self._wait_for_owner(self.ports[-1])

    @contextmanager
    def moving_slot(self, source: int, target: int) -> Iterator[None]:
        """Have the slot move from one master to another, all of its keys at the end."""
        source_id, target_id = self.ask(source, "CLUSTER MYID"), self.ask(target, "CLUSTER MYID")
        self.ask(target, "CLUSTER SETSLOT", self.SLOT, "IMPORTING", source_id)
        self.ask(source, "CLUSTER SETSLOT", self.SLOT, "MIGRATING", target_id)
        yield
        while keys := self.ask(source, "CLUSTER GETKEYSINSLOT", self.SLOT, 100):
            auth = "AUTH", self.PASSWORD
            self.ask(source, "MIGRATE", "127.0.0.1", target, "", 0, 5000, *auth, "KEYS", *keys)
        for port in (target, source):
            self.ask(port, "CLUSTER SETSLOT", self.SLOT, "NODE", target_id)
        self._wait_for_owner(target)

    def stop(self) -> None:
        """End all of them."""
        for process in self._processes:
            process.kill()
            process.wait(10)

    def _wait_for_owner(self, owner: int) -> None:
        living = [port for port, process in zip(self.ports, self._processes, strict=True) if process.poll() is None]
        _wait_until(lambda: all(self.holders(port)[:1] == [owner] for port in living))

    def _start(self, folder: Path) -> int:
        """Start a node; return its port."""
        folder.mkdir()
        port = free_node_port()
        command = [
            *redis_server.command(port, folder),
            *("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--repl-diskless-sync-delay", "0"),
            *("--requirepass", self.PASSWORD, "--masterauth", self.PASSWORD),
        ]
        self._processes.append(subprocess.Popen(command, preexec_fn=lifeline.ending_with_starter()))
        with self.connection(port) as connection:
            connection.ping()
        return port


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A Redis Cluster of the test's own."""
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Redis that all tests share: in cluster mode, so that all show whether keys lie in one slot."""
    server = cluster_of_one(tmp_path_factory.mktemp("redis"))
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
    pytest.importorskip("moto", reason="speaks S3; it comes with deploy/requirements/dev.txt")
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
