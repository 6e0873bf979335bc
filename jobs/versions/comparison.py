"""Compares a version with the one that serves, on copies of its jobs, whose answers go to no client."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from uuid import uuid4

from jobs.schema import ImageJob, Outcome, Prediction, Served
from runtime.reading import Damaged

# A copy that no worker takes within this time is not processed.
_COPY_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Sums over images that both versions have classified, and numbers of failed and dropped copies.

    `agreeing` counts images with the same class; `score_difference` sums the absolute differences of the top scores;
    `ms` and `served_ms` sum the times per image in its batch, decoding included.
    """

    images: float = 0
    agreeing: float = 0
    failures: float = 0
    dropped: float = 0
    score_difference: float = 0
    ms: float = 0
    served_ms: float = 0

    @classmethod
    def decode(cls, told: Mapping[bytes, bytes]) -> "Comparison":
        """Return the comparison that Redis stores. Raises `Damaged`."""
        try:
            return cls(**{each.name: float(told.get(each.name.encode(), 0)) for each in fields(cls)})
        except ValueError as err:
            raise Damaged("a sum is no number") from err

    def mean(self, total: float) -> float | None:
        """Return a sum's mean per image, None if there were no images."""
        return total / self.images if self.images else None


def copy_of(job: ImageJob, answer: Prediction, candidate: str) -> ImageJob:
    """Return a copy of an answered job for another model."""
    served = Served(answer.model, candidate, answer.label, answer.score, ms_per_image(answer))
    return ImageJob(uuid4().hex, job.image_name, _COPY_TIMEOUT_S, job.request_id, lane="bulk", served=served)


def compared(served: Served, outcome: Outcome) -> Comparison:
    """Return a copy's contribution to the comparison."""
    if not isinstance(outcome, Prediction):
        return Comparison(failures=1)
    return Comparison(
        images=1,
        agreeing=outcome.label == served.label,
        score_difference=abs(outcome.score - served.score),
        ms=ms_per_image(outcome),
        served_ms=served.ms,
    )


def ms_per_image(answer: Prediction) -> float:
    """Return the time per image in the prediction's batch."""
    timings = answer.timings
    return (timings.decode_ms + timings.inference_ms) / timings.batch_size if timings else 0.0
