"""Reads the figures of queue and workers from Redis."""

from collections.abc import Mapping
from typing import Any

from redis.exceptions import ResponseError

from jobs.queue.figures import Examined, QueueFigures, VersionFigures, WorkerFigures, WorkerReport
from jobs.redis import keys
from jobs.redis.connection import lacks_group, milliseconds, time_of
from jobs.versions.comparison import Comparison
from jobs.versions.rules import Version, Versions
from runtime.reading import understood


def read(connection: Any, worker_ttl_ms: int, versions: Versions) -> QueueFigures:  # noqa: ANN401 - what `connect` gives
    """Return the figures of all versions together; a worker is dead after `worker_ttl_ms` without a heartbeat.

    Raises `RedisError`.
    """
    pools = [keys.pool(name) for name in versions.all_pools]
    lanes = [lane for pool in pools for lane in pool.lanes.values()]
    pipeline = connection.pipeline(transaction=False)
    pipeline.time().hlen(keys.SET_ASIDE).get(keys.REDELIVERIES)
    for pool in pools:
        pipeline.zrange(pool.workers, 0, -1, withscores=True).hgetall(pool.service_times)
    for lane in lanes:
        pipeline.xlen(lane.jobs).xrange(lane.jobs, count=1).get(lane.queued_bytes)
    time, set_aside, redeliveries, *told = pipeline.execute()
    of_workers, of_lanes = told[: 2 * len(pools)], told[2 * len(pools) :]
    now_ms, held_jobs = milliseconds(time), sum(_held_jobs(connection, lane.jobs) for lane in lanes)
    jobs = of_lanes[::3]
    return QueueFigures(
        waiting_jobs=max(0, sum(jobs) - held_jobs),
        held_jobs=held_jobs,
        queued_bytes=sum(int(_number(size) or 0) for count, size in zip(jobs, of_lanes[2::3], strict=True) if count),
        oldest_job_s=max(((now_ms - time_of(oldest[0][0])) / 1000 for oldest in of_lanes[1::3] if oldest), default=0.0),
        set_aside_images=set_aside,
        redeliveries=int(_number(redeliveries) or 0),
        workers=_workers(connection, now_ms, worker_ttl_ms, _merged(of_workers[::2]), _merged(of_workers[1::2])),
        versions=_versions(connection, versions),
    )


def _versions(connection: Any, versions: Versions) -> tuple[VersionFigures, ...]:  # noqa: ANN401
    pipeline = connection.pipeline(transaction=False)
    pipeline.hgetall(keys.EXAMINED)
    for version in versions.listed:
        served = versions.served(version.info.name)
        pipeline.hgetall(keys.comparison_key(served.info.id if served else "", version.info.id))
    examined, *comparisons = pipeline.execute()
    return tuple(
        VersionFigures(
            version,
            versions.role(version),
            understood(f"the comparison of {version.name}", Comparison.decode, told) if told else None,
            _examined(version, examined.get(version.info.id.encode())),
        )
        for version, told in zip(versions.listed, comparisons, strict=True)
    )


def _examined(version: Version, told: bytes | None) -> Examined | None:
    return understood(f"how {version.name} does on corrected images", Examined.decode, told) if told else None


def _merged(tables: list[Any]) -> dict[bytes, Any]:
    return {key: value for table in tables for key, value in dict(table).items()}


def _held_jobs(connection: Any, jobs: str) -> int:  # noqa: ANN401
    """Return the number of jobs being processed; before the first worker comes there is no group, and so none."""
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
    seen_at_ms: Mapping[bytes, float],
    service_times_s: Mapping[bytes, bytes],
) -> tuple[WorkerFigures, ...]:
    names = sorted(seen_at_ms)
    reports = connection.mget([keys.WORKER_REPORT.encode() + name for name in names]) if names else []
    return tuple(
        WorkerFigures(
            name.decode(errors="replace"),
            silent_s=max(0.0, (now_ms - seen_at_ms[name]) / 1000),
            alive=now_ms - seen_at_ms[name] <= worker_ttl_ms,
            service_time_s=_number(service_times_s.get(name)),
            report=understood(f"the report of worker {name!r}", WorkerReport.decode, report) if report else None,
        )
        for name, report in zip(names, reports, strict=True)
    )


def _number(data: bytes | None) -> float | None:
    """Return a number that Redis stores as text, None if there is none."""
    try:
        return None if data is None else float(data)
    except ValueError:
        return None
