"""Many callers of one script, and a Redis that forgets it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from redis.commands.core import Script
from redis.exceptions import ResponseError

from jobs.redis.connection import connect
from jobs.redis.shared_script import SharedScript
from testing.redis_servers import RedisServer

# Adds to a counter; refuses odd numbers.
_ADD = """
if ARGV[1] % 2 == 1 then return redis.error_reply('odd') end
redis.call('INCRBY', KEYS[1], ARGV[1])
return ARGV[1]
"""


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Any]:
    server = RedisServer(tmp_path)
    connection = connect(server.url)
    yield connection
    connection.close()
    server.stop()


@pytest.fixture
def add(connection: Any) -> Iterator[SharedScript]:
    script = SharedScript(Script(connection, _ADD))
    yield script
    script.close()


def ask(script: SharedScript, number: int) -> object:
    try:
        return int(script(["total"], [number]))
    except ResponseError as err:
        return str(err)


def test_each_of_many_callers_gets_its_own_answer_or_error(connection: Any, add: SharedScript) -> None:
    numbers = range(200)
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda number: ask(add, number), numbers))
    assert answers == ["odd" if number % 2 else number for number in numbers]
    assert int(connection.get("total")) == sum(range(0, 200, 2))


def test_calls_that_come_while_one_is_on_its_way_are_sent_together(
    connection: Any, add: SharedScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipelines = list[int]()
    make = connection.pipeline

    def pipeline(**options: object) -> object:
        pipelines.append(1)
        return make(**options)

    monkeypatch.setattr(connection, "pipeline", pipeline)
    with ThreadPoolExecutor(50) as threads:
        list(threads.map(lambda number: ask(add, 2 * number), range(500)))
    assert 0 < len(pipelines) < 500


def test_a_script_that_redis_has_forgotten_is_loaded_again_and_each_call_runs_once(
    connection: Any, add: SharedScript
) -> None:
    assert ask(add, 2) == 2
    connection.script_flush()
    with ThreadPoolExecutor(5) as threads:
        assert list(threads.map(lambda number: ask(add, number), [2, 4, 6, 8, 10])) == [2, 4, 6, 8, 10]
    assert int(connection.get("total")) == 32
