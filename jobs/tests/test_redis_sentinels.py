"""The queue on a real Redis with sentinels, whose replica takes over."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from jobs.redis.connection import connect
from jobs.redis.pool import connection_pool
from jobs.redis.queue import RedisJobQueue
from jobs.redis.results import RedisResults
from jobs.results import Result
from jobs.schema import ImageJob
from jobs.tests.load import MOST_S, all_are_right_through, ask, prediction_for, worker_on
from runtime.errors import QueueUnavailable
from testing.queues import until
from testing.redis_servers import Sentinels


@pytest.fixture
def queue(sentinels: Sentinels) -> Iterator[RedisJobQueue]:
    queue = RedisJobQueue(sentinels.url, max_jobs=1000)
    yield queue
    queue.close()


def test_every_accepted_job_is_answered_right_though_the_master_dies(
    sentinels: Sentinels, queue: RedisJobQueue, figures: list[str]
) -> None:
    def change_masters() -> None:
        sentinels.kill_master()
        sentinels.wait_for_promotion()

    assert all_are_right_through("Sentinels, their master killed", change_masters, sentinels.url, queue, figures)


def test_a_job_that_the_replica_never_heard_of_is_submitted_again(sentinels: Sentinels, queue: RedisJobQueue) -> None:
    queue.heartbeat("w1", 0.01, "m1")
    with sentinels.connection(sentinels.replica) as replica:
        replica.execute_command("REPLICAOF", "NO", "ONE")  # the sentinels will undo it, but not during this test
        job = ImageJob.create("dog.jpg", MOST_S)
        queue.submit(job)
        assert replica.xlen("{mlapi}:jobs") == 0
    sentinels.kill_master()
    with worker_on(sentinels.url):
        assert queue.wait(job) == prediction_for(job)


def test_a_new_master_that_has_not_heard_of_the_workers_yet_refuses_no_job(sentinels: Sentinels) -> None:
    worker_ttl_s = 4
    queue = RedisJobQueue(sentinels.url, max_jobs=10, worker_ttl_s=worker_ttl_s)
    queue.heartbeat("w1", 0.01, "m1")
    queue.submit(ImageJob.create("before.jpg", MOST_S))
    with sentinels.connection(sentinels.replica) as replica:
        # Otherwise it counts as one that was just started.
        assert until(lambda: replica.info("server")["uptime_in_seconds"] > worker_ttl_s)
        sentinels.kill_master()
        sentinels.wait_for_promotion()
        replica.delete("{mlapi}:workers")
    assert until(lambda: is_accepted(queue, ImageJob.create("after.jpg", MOST_S)))
    queue.close()


def is_accepted(queue: RedisJobQueue, job: ImageJob) -> bool:
    try:
        queue.submit(job)
    except QueueUnavailable:
        return False
    return True


def test_jobs_are_answered_though_the_first_sentinel_is_dead(sentinels: Sentinels, queue: RedisJobQueue) -> None:
    sentinels.kill_sentinel(0)
    with worker_on(sentinels.url):
        assert ask(queue, "dog.jpg")


def test_threads_that_ask_at_once_leave_every_sentinel_in_the_list(sentinels: Sentinels) -> None:
    sentinels.kill_sentinel(0)
    pool = connection_pool(sentinels.url, 100, connect_timeout_s=2, answer_timeout_s=5)
    all_there = threading.Barrier(16)

    def connect_one(_: int) -> None:
        all_there.wait(MOST_S)
        pool.get_connection()

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(connect_one, range(16)))
    listed = cast("Any", pool).sentinel_manager.sentinels
    ports = {sentinel.get_connection_kwargs()["port"] for sentinel in listed}
    assert ports == set(sentinels.ports)
    pool.disconnect()


def test_a_master_that_is_demoted_counts_as_away_and_is_left_for_the_new_one(
    sentinels: Sentinels, queue: RedisJobQueue
) -> None:
    queue.heartbeat("w1", 0.01, "m1")
    with sentinels.connection(sentinels.master) as master:
        master.execute_command("REPLICAOF", "127.0.0.1", str(sentinels.replica))  # this ends no connection
        with pytest.raises(QueueUnavailable):
            queue.heartbeat("w1", 0.01, "m1")
        with pytest.raises(QueueUnavailable):
            queue.take_batch("w1", 1, 0.05)
        sentinels.kill_master()
    with worker_on(sentinels.url):
        assert ask(queue, "dog.jpg")


def test_a_planned_change_of_masters_costs_no_job(sentinels: Sentinels, queue: RedisJobQueue) -> None:
    with worker_on(sentinels.url), ThreadPoolExecutor(1) as pool:
        assert ask(queue, "before.jpg")
        sentinels.promote()
        asked = pool.submit(lambda: [ask(queue, f"{number}.jpg") for number in range(200)])
        sentinels.wait_for_promotion()
        assert all(asked.result())
        assert until(lambda: sentinels.info(sentinels.master)["role"] == "slave")
        assert ask(queue, "after.jpg")


def test_results_are_kept_over_the_masters_death_once_the_replica_has_them(sentinels: Sentinels) -> None:
    results = RedisResults(sentinels.url, max_bytes=10**6)
    results.keep("r1", Result({"top_k": 1}, ("a",), {}), ttl_s=600)
    with connect(sentinels.url) as master:
        assert master.wait(1, 1000 * MOST_S) == 1
    sentinels.kill_master()
    sentinels.wait_for_promotion()
    assert until(lambda: is_there(results))
    results.close()


def is_there(results: RedisResults) -> bool:
    try:
        return results.get("r1") is not None
    except QueueUnavailable:
        return False


def test_without_a_sentinel_redis_is_away() -> None:
    with pytest.raises(RedisConnectionError, match="No master found for 'queue'"):
        connect("redis+sentinel://127.0.0.1:1,127.0.0.1:2/queue").ping()
