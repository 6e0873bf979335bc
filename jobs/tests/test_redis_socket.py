"""A Redis on a Unix socket."""

import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from jobs.redis.connection import connect
from jobs.redis.queue import RedisJobQueue
from mlapi.service import redis_server
from runtime import parent_watch


class SocketServer:
    """A Redis that listens only on a socket, with methods to stop and start it."""

    def __init__(self, socket: Path) -> None:
        self.socket, self.url = socket, f"unix://{quote(str(socket))}"
        self.start()

    def start(self) -> None:
        """Start, and return when it answers."""
        command = [*redis_server.command(self.socket, self.socket.parent), "--tcp-backlog", "1"]
        self.process = subprocess.Popen(command, preexec_fn=parent_watch.ending_with_starter())
        with redis.Redis.from_url(self.url, retry=Retry(ConstantBackoff(0.05), retries=1200)) as connection:
            connection.ping()

    def kill(self) -> None:
        """Kill it without warning."""
        self.process.kill()
        self.process.wait(10)


@pytest.fixture
def server() -> Iterator[SocketServer]:
    with redis_server.runtime_folder() as folder:
        server = SocketServer(folder / "with a space.sock")
        yield server
        server.kill()


def test_a_queue_is_reached_by_a_socket_and_by_no_port(server: SocketServer) -> None:
    queue = RedisJobQueue(server.url, max_jobs=1)
    assert list(queue.live_workers()) == []
    queue.close()
    with connect(server.url) as connection:
        assert connection.config_get("port") == {"port": "0"} or connection.config_get("port") == {b"port": b"0"}
    assert server.socket.stat().st_mode & 0o077 == 0
    assert server.socket.parent.stat().st_mode & 0o077 == 0


def test_a_socket_that_a_killed_server_left_is_in_nobodys_way(server: SocketServer) -> None:
    server.kill()
    assert server.socket.is_socket()
    server.start()
    with connect(server.url) as connection:
        assert connection.ping()


def test_more_may_connect_at_once_than_the_socket_lets_wait(server: SocketServer) -> None:
    connection: Any = connect(server.url)
    os.kill(server.process.pid, signal.SIGSTOP)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(connection.ping) for _ in range(8)]
        done, _ = wait(answers, 0.1)
        os.kill(server.process.pid, signal.SIGCONT)
        assert not done
        assert all(answer.result() for answer in answers)
    connection.close()


def test_a_socket_that_takes_no_more_is_given_up_in_time(server: SocketServer) -> None:
    connection: Any = connect(server.url)
    connection.connection_pool.connection_kwargs |= {"socket_connect_timeout": 0.1, "socket_timeout": 0.1}
    os.kill(server.process.pid, signal.SIGSTOP)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(connection.ping) for _ in range(8)]
    os.kill(server.process.pid, signal.SIGCONT)
    assert all(isinstance(answer.exception(), redis.ConnectionError | redis.TimeoutError) for answer in answers)
    connection.close()
