"""Redis servers for tests: alone, behind sentinels, and in a cluster."""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import redis
from redis.backoff import ConstantBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.retry import Retry

from mlapi.service import redis_server
from runtime import parent_watch


def wait_until_written(connection: "redis.Redis") -> None:
    """Return when all of a Redis's log is in its file: Redis may delay writing while the disk is slow."""
    deadline = time.monotonic() + 30
    while any(connection.info("persistence")[name] for name in ("aof_buffer_length", "aof_pending_bio_fsync")):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def free_node_port() -> int:
    """Return a free port for a Redis that may be a node of a cluster, whose bus uses the port 10,000 higher."""
    return next(port for port in iter(redis_server.free_port, None) if port < 55_000)


class RedisServer:
    """A Redis that a test may stop and restart; it forgets everything, unless it `keeps` its data."""

    def __init__(self, folder: Path, *options: str, keeps: bool = False) -> None:
        self._folder, self._options = folder, options
        self._kept = folder if keeps else None
        self._port = free_node_port()
        self.url = f"redis://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Start, and return when it answers; raise `redis.ConnectionError` if it does not within a minute."""
        self._process = subprocess.Popen(
            [*redis_server.command(self._port, self._folder, self._kept), *self._options],
            preexec_fn=parent_watch.ending_with_starter(),
        )
        with redis.Redis.from_url(self.url, retry=Retry(ConstantBackoff(0.05), retries=1200)) as connection:
            connection.ping()

    def stop(self) -> None:
        """Stop at once; if it keeps its data, after writing its log."""
        if self._kept:
            with redis.Redis.from_url(self.url) as connection:
                wait_until_written(connection)
        self._process.kill()
        self._process.wait(10)


def cluster_of_one(folder: Path, *options: str) -> RedisServer:
    """Return a Redis in cluster mode that has all slots: it refuses commands on keys of several slots."""
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
        # A sentinel that knows no others cannot reach agreement.
        _wait_until(lambda: all(self._knows_all(port) for port in self.ports))
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        options = urlencode({"sentinel_password": self.SENTINEL_PASSWORD})
        self.url = f"redis+sentinel://:{quote(self.PASSWORD)}@{hosts}/queue?{options}"

    def info(self, port: int) -> dict[str, Any]:
        """Return a Redis's replication information."""
        with self.connection(port) as connection:
            found: dict[str, Any] = connection.info("replication")
            return found

    def connection(self, port: int) -> "redis.Redis":
        """Return a connection to one Redis, whatever its role."""
        return redis.Redis(port=port, password=self.PASSWORD, retry=Retry(ConstantBackoff(0.05), retries=200))

    def kill_master(self) -> None:
        """Kill the master without warning."""
        self._processes[0].kill()
        self._processes[0].wait(10)

    def kill_sentinel(self, number: int) -> None:
        """Kill a sentinel without warning."""
        self._processes[2 + number].kill()
        self._processes[2 + number].wait(10)

    def promote(self) -> None:
        """Make the sentinels promote the replica while the master is healthy."""
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
        self._processes.append(subprocess.Popen(command, preexec_fn=parent_watch.ending_with_starter()))

    def _sentinel(self, port: int) -> "redis.Redis":
        retry = Retry(ConstantBackoff(0.05), retries=200)
        return redis.Redis(port=port, password=self.SENTINEL_PASSWORD, retry=retry)

    def _knows_all(self, port: int) -> bool:
        with self._sentinel(port) as sentinel:
            master: Any = sentinel.sentinel_master("queue")
            return bool(master["num-other-sentinels"] == len(self.ports) - 1 and master["num-slaves"] == 1)


class Cluster:
    """A Redis Cluster: three masters, of which the first has the slot of the project's keys, and its replica."""

    PASSWORD = "the cluster's"  # noqa: S105 - of a test
    SLOT = key_slot(b"{mlapi}")

    def __init__(self, folder: Path) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self.ports = [self._start(folder / f"node-{number}") for number in range(4)]
        owner, *others, replica = self.ports
        # Each with its own epoch; otherwise they would first have to agree on the owners of slots.
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
        """Return a connection to one node, whatever its role."""
        return redis.Redis(port=port, password=self.PASSWORD, retry=Retry(ConstantBackoff(0.05), retries=200))

    def node_url(self, port: int) -> str:
        """Return the address of one node."""
        return f"redis://:{quote(self.PASSWORD)}@127.0.0.1:{port}"

    def ask(self, port: int, *command: object) -> Any:  # noqa: ANN401 - what the command gives
        """Return a node's answer to a command."""
        with self.connection(port) as connection:
            connection.response_callbacks.clear()
            return connection.execute_command(*command)

    def names(self, port: int) -> set[int]:
        """Return the ports of the nodes that a node knows."""
        lines = self.ask(port, "CLUSTER NODES").decode().splitlines()
        return {int(line.split()[1].partition("@")[0].rpartition(":")[2]) for line in lines}

    def holders(self, port: int) -> list[int]:
        """Return the ports of the slot's master and of its replica, as a node knows them."""
        slots = self.ask(port, "CLUSTER SLOTS")
        return [node[1] for first, last, *nodes in slots if first <= self.SLOT <= last for node in nodes]

    def kill_master(self) -> None:
        """Kill the slot's master without warning."""
        self._processes[0].kill()
        self._processes[0].wait(10)

    def wait_for_promotion(self) -> None:
        """Return when every live node knows that the replica has the slot."""
        self._wait_for_owner(self.ports[-1])

    @contextmanager
    def moving_slot(self, source: int, target: int) -> Iterator[None]:
        """Move the slot from one master to another; all of its keys move at the end."""
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
        self._processes.append(subprocess.Popen(command, preexec_fn=parent_watch.ending_with_starter()))
        with self.connection(port) as connection:
            connection.ping()
        return port
