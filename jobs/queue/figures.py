"""Figures of the queue and its workers at one moment."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from jobs.versions.comparison import Comparison
from jobs.versions.rules import Role, Version
from runtime.reading import Damaged, read

# Score buckets of API and workers: the same, so that the scores in answers can be compared with those computed.
SCORE_BUCKETS = tuple(tenth / 10 for tenth in range(1, 11))


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """A worker's own report: totals since it started, its recent rate (`images_per_s`), and its limit.

    `batches` counts batches by size; `decode_s` and `inference_s` are total seconds. `limit_images_per_s` is the
    network's rate without decoding and queue, measured at the worker's start.
    """

    model: str = ""
    started_at_s: float = 0
    limit_images_per_s: float = 0
    images_per_s: float = 0
    images: int = 0
    failures: int = 0
    batches: Mapping[int, int] = field(default_factory=dict)
    decode_s: float = 0
    inference_s: float = 0

    def encode(self) -> bytes:
        """Return the report as UTF-8 JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> "WorkerReport":
        """Return the report that `encode` wrote, ignoring unknown fields. Raises `Damaged`."""
        return read(cls, data)


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """A worker: its name, the seconds since its last heartbeat, and whether it counts as alive.

    Missing or outdated fields are None.
    """

    name: str
    silent_s: float
    alive: bool
    service_time_s: float | None = None
    report: WorkerReport | None = None


class Examined(NamedTuple):
    """The number of user-corrected images that a version was tested on, and how many of them it gets right."""

    right: int
    images: int

    def encode(self) -> bytes:
        """Return both numbers as text."""
        return f"{self.right} {self.images}".encode()

    @classmethod
    def decode(cls, data: bytes) -> "Examined":
        """Return the counts that `encode` wrote. Raises `Damaged`."""
        try:
            right, images, *_ = map(int, data.split())
        except ValueError as err:
            raise Damaged("it is not two numbers") from err
        return cls(right, images)


@dataclass(frozen=True, slots=True)
class VersionFigures:
    """A version, its role, and its results.

    The results are its comparison with the version that serves, if there was one, and its score on images that users
    have corrected.
    """

    version: Version
    role: Role
    comparison: Comparison | None = None
    examined: Examined | None = None


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """Waiting and processing jobs, bytes of their images, age of the oldest, quarantined images, and workers.

    All figures cover all versions together. `redeliveries` counts jobs that were taken over from workers that died.
    """

    waiting_jobs: int = 0
    held_jobs: int = 0
    queued_bytes: int = 0
    oldest_job_s: float = 0
    set_aside_images: int = 0
    redeliveries: int = 0
    workers: tuple[WorkerFigures, ...] = ()
    versions: tuple[VersionFigures, ...] = ()

    @property
    def live_workers(self) -> int:
        """The number of live workers."""
        return sum(worker.alive for worker in self.workers)

    @property
    def reports(self) -> list[WorkerReport]:
        """The reports of the live workers."""
        return [worker.report for worker in self.workers if worker.alive and worker.report]

    @property
    def images_per_s(self) -> float:
        """The throughput of all live workers together."""
        return sum(report.images_per_s for report in self.reports)

    @property
    def limit_images_per_s(self) -> float:
        """The maximum throughput of the live workers' networks, without decoding and queue."""
        return sum(report.limit_images_per_s for report in self.reports)

    @property
    def efficiency(self) -> float:
        """The share of that limit that is reached, 0 if no limit is known."""
        return self.images_per_s / self.limit_images_per_s if self.limit_images_per_s else 0.0

    @property
    def batches(self) -> Counter[int]:
        """The number of batches by size that the live workers have done since they started."""
        return sum((Counter(report.batches) for report in self.reports), Counter())
