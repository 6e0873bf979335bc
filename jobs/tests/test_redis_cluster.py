"""The queue on a real Redis Cluster, in which another node takes over the slot of all keys."""

from collections.abc import Callable, Iterator

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from jobs.queue.interface import Delivery
from jobs.redis.connection import connect
from jobs.redis.queue import RedisJobQueue
from jobs.redis.results import RedisResults
from jobs.results import Result
from jobs.schema import ImageJob
from jobs.tests.load import MOST_S, all_are_right_through, prediction_for
from runtime.errors import QueueUnavailable
from testing.queues import until
from testing.redis_servers import Cluster


@pytest.fixture
def queue(cluster: Cluster) -> Iterator[RedisJobQueue]:
    queue = RedisJobQueue(cluster.url, max_jobs=1000, cache_ttl_s=60, cache_entries=1000)
    yield queue
    queue.close()


def master_dies(cluster: Cluster) -> None:
    """Have the replica replace the master, which no longer answers."""
    cluster.kill_master()
    cluster.wait_for_promotion()


def master_steps_down(cluster: Cluster) -> None:
    """Have master and replica swap roles while both are healthy."""
    cluster.ask(cluster.ports[-1], "CLUSTER FAILOVER")
    cluster.wait_for_promotion()


def slot_moves(cluster: Cluster) -> None:
    """Have another master take over the slot."""
    owner, other, *_ = cluster.ports
    with cluster.moving_slot(owner, other):
        pass


@pytest.mark.parametrize("change", [master_dies, master_steps_down, slot_moves])
def test_every_accepted_job_is_answered_right_though(
    change: Callable[[Cluster], None], cluster: Cluster, queue: RedisJobQueue, figures: list[str]
) -> None:
    what = f"Cluster, {change.__name__.replace('_', ' ')}"
    assert all_are_right_through(what, lambda: change(cluster), cluster.url, queue, figures)


def test_while_the_slot_moves_a_job_is_finished_as_a_whole_or_not_at_all(
    cluster: Cluster, queue: RedisJobQueue
) -> None:
    owner, other, *_ = cluster.ports
    queue.heartbeat("w1", 0.01, "m1")
    before, first, joined = (ImageJob.create(name, MOST_S) for name in ("cat.jpg", "dog.jpg", "dog.jpg"))
    queue.submit(before)
    queue.finish([(delivery, prediction_for(before)) for delivery in queue.take_batch("w1", 1, 0.05)])
    for job in (first, joined):
        queue.submit(job)
    [delivery] = queue.take_batch("w1", 1, 0.05)
    with cluster.moving_slot(owner, other):
        # This node has all keys that are changed except one, the prediction to be cached, and must not create new ones.
        with pytest.raises(QueueUnavailable):
            queue.finish([(delivery, prediction_for(first))])
        assert cluster.ask(owner, "XLEN", "{mlapi}:jobs") == 1
    assert until(lambda: is_finished(queue, delivery))
    assert queue.wait(first) == queue.wait(joined) == prediction_for(first)


def is_finished(queue: RedisJobQueue, delivery: Delivery) -> bool:
    try:
        queue.finish([(delivery, prediction_for(delivery.job))])
    except QueueUnavailable:  # a connection may still lead to the node that had the slot
        return False
    return True


def test_results_are_kept_where_the_slot_goes(cluster: Cluster) -> None:
    results = RedisResults(cluster.url, max_bytes=1_000_000)
    results.keep("r1", Result({"top_k": 1}, ("a",), {}), ttl_s=600)
    slot_moves(cluster)
    assert results.get("r1") is not None
    results.close()


def test_a_node_without_the_slot_tells_how_it_is_found(cluster: Cluster) -> None:
    _, other, *_ = cluster.ports
    queue = RedisJobQueue(cluster.node_url(other), max_jobs=1)
    with pytest.raises(QueueUnavailable) as refused:
        queue.heartbeat("w1", 0.01, "m1")
    assert "Another node of this cluster has the queue, which redis+cluster:// follows" in str(refused.value.__cause__)
    queue.close()


def test_a_node_that_is_dead_is_passed_over(cluster: Cluster) -> None:
    with connect(cluster.url.replace("@", "@127.0.0.1:1,")) as connection:
        assert connection.ping()


def test_a_cluster_without_a_node_that_answers_is_away() -> None:
    with pytest.raises(RedisConnectionError, match="No node of the cluster says who has the queue: Error 111"):
        connect("redis+cluster://127.0.0.1:1,127.0.0.1:2").ping()
