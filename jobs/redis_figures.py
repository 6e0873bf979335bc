"""What Redis knows of queue and workers at one moment."""

from typing import Any

from redis.exceptions import ResponseError

from jobs import redis_keys as keys
from jobs.figures import QueueFigures, WorkerFigures, WorkerReport
from jobs.redis_connection import lacks_group, milliseconds, time_of


def read(connection: Any, worker_ttl_ms: int) -> QueueFigures:  # noqa: ANN401 - what `connect` returns
    """Return the figures, in which a worker that was not heard of for so long counts as dead. Raises `RedisError`."""
    lanes = keys.LANES.values()
    pipeline = connection.pipeline(transaction=False)
    pipeline.time().hlen(keys.SET_ASIDE).zrange(keys.WORKERS, 0, -1, withscores=True).hgetall(keys.SERVICE_TIMES)
    for lane in lanes:
        pipeline.xlen(lane.jobs).xrange(lane.jobs, count=1).get(lane.queued_bytes)
    time, set_aside, workers, service_times_s, *of_lanes = pipeline.execute()
    now_ms, held_jobs = milliseconds(time), sum(_held_jobs(connection, lane.jobs) for lane in lanes)
    jobs = of_lanes[::3]
    return QueueFigures(
        waiting_jobs=max(0, sum(jobs) - held_jobs),
        held_jobs=held_jobs,
        queued_bytes=sum(int(size or 0) for count, size in zip(jobs, of_lanes[2::3], strict=True) if count),
        oldest_job_s=max(((now_ms - time_of(oldest[0][0])) / 1000 for oldest in of_lanes[1::3] if oldest), default=0.0),
        set_aside_images=set_aside,
        workers=_workers(connection, now_ms, worker_ttl_ms, sorted(workers), service_times_s),
    )


def _held_jobs(connection: Any, jobs: str) -> int:  # noqa: ANN401
    """Return how many jobs are in work; before the first worker comes there is no group, and so none."""
    try:
        return int(connection.xpending(jobs, keys.GROUP)["pending"])
    except ResponseError as err:
        if not lacks_group(err):
            raise
        return 0


def _workers(
    connection: Any,  # noqa: ANN401
    now_ms: int,
    worker_ttl_ms: int,
    seen_at_ms: list[tuple[bytes, float]],
    service_times_s: dict[bytes, bytes],
) -> tuple[WorkerFigures, ...]:
    reports = connection.mget([keys.WORKER_REPORT.encode() + name for name, _ in seen_at_ms]) if seen_at_ms else []
    return tuple(
        WorkerFigures(
            name.decode(),
            silent_s=max(0.0, (now_ms - seen_ms) / 1000),
            alive=now_ms - seen_ms <= worker_ttl_ms,
            service_time_s=float(service_times_s[name]) if name in service_times_s else None,
            report=WorkerReport.decode(report) if report else None,
        )
        for (name, seen_ms), report in zip(seen_at_ms, reports, strict=True)
    )
