"""Warnings about a Redis that is not set up for the service."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from jobs.redis.setup import RedisSetup, warn
from testing.redis_servers import RedisServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def connection(server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(server.url) as connection:
        yield connection


def test_a_redis_with_its_own_defaults_is_well(connection: Any) -> None:
    assert RedisSetup.read(connection) == RedisSetup()


@pytest.mark.parametrize(
    ("policy", "limit", "told"),
    [
        ("allkeys-lru", "100mb", "When it has 100.00M, it deletes jobs and promised predictions"),
        ("allkeys-random", "0", "Once it has a maxmemory and reaches that, it deletes jobs"),
        ("volatile-lru", "100mb", "it deletes predictions that were promised"),
        ("volatile-ttl", "100mb", "it deletes predictions that were promised"),
    ],
)
def test_a_redis_that_evicts_is_said_to_lose_what_was_promised(
    connection: Any, policy: str, limit: str, told: str
) -> None:
    connection.config_set("maxmemory", limit)
    connection.config_set("maxmemory-policy", policy)
    setup = RedisSetup.read(connection)
    [problem] = setup.loses
    assert told in problem
    assert f"its maxmemory-policy is {policy}." in problem
    assert "set maxmemory-policy noeviction" in problem
    assert setup.refuses == ()


def test_a_redis_that_may_be_full_and_evicts_nothing_is_well(connection: Any) -> None:
    connection.config_set("maxmemory", "100mb")
    assert RedisSetup.read(connection) == RedisSetup()


def test_a_replica_takes_no_jobs(connection: Any) -> None:
    connection.execute_command("REPLICAOF", "127.0.0.1", "1")
    [problem] = RedisSetup.read(connection).refuses
    assert "have REDIS_URL lead to its master" in problem


def test_a_managed_redis_that_forbids_config_is_asked_as_well(connection: Any) -> None:
    connection.config_set("maxmemory-policy", "allkeys-lru")
    connection.execute_command("ACL", "SETUSER", "guest", "on", "nopass", "~*", "+@all", "-@admin", "-config", "+info")
    connection.execute_command("AUTH", "guest", "any")
    with pytest.raises(redis.exceptions.NoPermissionError):
        connection.config_get("maxmemory-policy")
    assert RedisSetup.read(connection).loses


@pytest.mark.parametrize(
    ("told", "is_told_of"),
    [
        ({"aof_enabled": 1, "aof_last_write_status": "err"}, True),
        ({"aof_enabled": 0, "rdb_last_bgsave_status": "err"}, True),
        ({"aof_enabled": 1, "aof_last_write_status": "ok", "rdb_last_bgsave_status": "err"}, False),
        ({}, False),
    ],
)
def test_a_redis_that_cannot_write_its_file_may_take_no_jobs(told: dict[str, Any], is_told_of: bool) -> None:
    class Fake:
        def info(self) -> dict[str, Any]:
            return told

    assert any("could not write its file" in problem for problem in RedisSetup.read(Fake()).refuses) == is_told_of


def test_it_is_logged_once_when_redis_answers(
    server: RedisServer, connection: Any, caplog: pytest.LogCaptureFixture
) -> None:
    connection.config_set("maxmemory-policy", "allkeys-lru")
    warn(server.url, threading.Event())
    [line] = caplog.messages
    assert line.startswith("Redis: its maxmemory-policy is allkeys-lru.")


def test_of_a_redis_that_never_answers_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    stopped = threading.Event()
    threading.Timer(0.1, stopped.set).start()
    warn("redis://127.0.0.1:1", stopped)
    assert caplog.messages == []
