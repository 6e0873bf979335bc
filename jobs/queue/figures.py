"""What there is to know of the queue and its workers at one moment."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from jobs.versions.comparison import Comparison
from jobs.versions.rules import Role, Version
from runtime.reading import Damaged, read

# How API and workers count scores: in the same steps, so that what is answered can be held against what is computed.
SCORE_BUCKETS = tuple(tenth / 10 for tenth in range(1, 11))


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker tells of itself: since it started, of the last seconds (`images_per_s`), and of its best.

    `batches` counts batches by how many images they had; `decode_s` and `inference_s` are the seconds that went into
    all of them. `limit_images_per_s` is what its network does without decoding and queue, as measured at its start.
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
        """Return the report that `encode` wrote, as far as it is understood. Raises `Damaged`."""
        return read(cls, data)


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """A worker: its name, the seconds since it was heard of, and whether it therefore counts as alive.

    What it has not told, or not lately, is missing.
    """

    name: str
    silent_s: float
    alive: bool
    service_time_s: float | None = None
    report: WorkerReport | None = None


class Examined(NamedTuple):
    """How many images a version was asked about whose right class users have said, and how many it gets right."""

    right: int
    images: int

    def encode(self) -> bytes:
        """Return both numbers as text."""
        return f"{self.right} {self.images}".encode()

    @classmethod
    def decode(cls, data: bytes) -> "Examined":
        """Return what `encode` wrote. Raises `Damaged`."""
        try:
            right, images, *_ = map(int, data.split())
        except ValueError as err:
            raise Damaged("it is not two numbers") from err
        return cls(right, images)


@dataclass(frozen=True, slots=True)
class VersionFigures:
    """A version, what it is for, and how it does.

    That is beside the version that serves, where it was compared with that, and on images that users have corrected.
    """

    version: Version
    role: Role
    comparison: Comparison | None = None
    examined: Examined | None = None


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """Jobs that wait and jobs in work, bytes of their images, the age of the oldest, images set aside, and workers.

    All of that is of all versions together. `redeliveries` counts jobs that were taken over from workers that died.
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
        """How many workers are alive."""
        return sum(worker.alive for worker in self.workers)

    @property
    def reports(self) -> list[WorkerReport]:
        """What the live workers have told."""
        return [worker.report for worker in self.workers if worker.alive and worker.report]

    @property
    def images_per_s(self) -> float:
        """What the live workers do together."""
        return sum(report.images_per_s for report in self.reports)

    @property
    def limit_images_per_s(self) -> float:
        """What the networks of the live workers could do at most, without decoding and queue."""
        return sum(report.limit_images_per_s for report in self.reports)

    @property
    def efficiency(self) -> float:
        """The share of that limit that is reached, 0 where none is known."""
        return self.images_per_s / self.limit_images_per_s if self.limit_images_per_s else 0.0

    @property
    def batches(self) -> Counter[int]:
        """How many batches of each size the live workers have done since they started."""
        return sum((Counter(report.batches) for report in self.reports), Counter())
