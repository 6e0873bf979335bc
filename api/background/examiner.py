"""Scores every version on the images that users have corrected.

A version is scored on images of its model or of an unknown model, if the correct class is one of its own. A new
version is scored on earlier images, too. With only one version, nothing is scored.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from api.feedback import reports
from api.views import Services
from jobs.queue.figures import Examined
from jobs.schema import ImageJob
from jobs.versions.rules import Version
from runtime.errors import DeadlinePassed, QueueFull, ServiceError, Unavailable

log = logging.getLogger(__name__)

_EVERY_S = 5.0
# Number of corrected images, the latest of those that are kept.
_MOST_IMAGES = 500
_TURN, _TURN_S = "examiner", 60
# A version that does not answer in time is tried again later.
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class _Corrected:
    """A kept image: its name, its correct class, and the model that was wrong ("" if unknown)."""

    name: str
    label: str
    model: str


class Examiner:
    """Scores versions on the images kept beside the feedback; for one thread, in one of all API processes."""

    def __init__(self, services: Services) -> None:
        self._files = services.settings.feedback_filepath, services.settings.feedback_records
        self._kept = services.feedback
        self._queue = services.queue
        self._images = services.images
        self._results = services.results
        self._name = uuid4().hex
        self._answers: dict[tuple[str, str], str] = {}  # labels by model and image

    def run(self, stopped: threading.Event) -> None:
        """Score versions on new images periodically until `stopped` is set."""
        while not stopped.wait(_EVERY_S):
            try:
                self.step()
            except ServiceError as err:
                log.debug("the versions cannot be examined for now: %s", err)
            except OSError as err:
                log.warning("an image that was corrected cannot be read: %s", err)

    def step(self) -> None:
        """Have each version classify the images that are new to it, and record how many it gets right.

        Raises the `ServiceError` or `OSError` that prevents it.
        """
        versions = [version for version in self._queue.versions().listed if version.workers]
        corrected = self._corrected() if len(versions) > 1 else []
        if not corrected or not self._is_its_turn():
            return
        for version in versions:
            self._examine(version, _of(version, corrected))
        asked = {(version.info.id, image.name) for version in versions for image in corrected}
        self._answers = {key: label for key, label in self._answers.items() if key in asked}

    def _examine(self, version: Version, images: Sequence[_Corrected]) -> None:
        """Have a version classify the images that are new to it, and record how many of all it gets right."""
        for image in images:
            self._ask(version, image)
        answers = [self._answers[version.info.id, image.name] == image.label for image in images]
        if answers:
            self._queue.note_examined(version.info.id, Examined(right=sum(answers), images=len(answers)))

    def _is_its_turn(self) -> bool:
        """Return whether this process does the scoring; another takes over when its claim expires."""
        if self._results.claim(_TURN, self._name, _TURN_S) not in {None, self._name}:
            return False
        self._results.settle(_TURN, self._name, _TURN_S)
        return True

    def _corrected(self) -> list[_Corrected]:
        """Return the latest corrections whose images are kept."""
        found = [(each.image_hash, each.label, each.model or "") for each in reports.latest(*self._files) if each.label]
        names = {image_hash: self._kept.kept_name(image_hash) for image_hash in {each[0] for each in found}}
        named = ((names[image_hash], label, model) for image_hash, label, model in found)
        return [_Corrected(name, label, model) for name, label, model in named if name]

    def _ask(self, version: Version, image: _Corrected) -> None:
        """Have a version classify an image as bulk work, unless it already has."""
        if (version.info.id, image.name) in self._answers:
            return
        self._images.put(image.name, self._kept.images.get(image.name))  # the upload may be gone
        job = ImageJob(uuid4().hex, image.name, _TIMEOUT_S, lane="bulk", model=version.name)
        try:
            self._queue.submit(job)
            label = self._queue.wait(job).label
        except (Unavailable, QueueFull, DeadlinePassed):
            raise
        except ServiceError:
            label = ""  # counts as wrong
        self._answers[version.info.id, image.name] = label


def _of(version: Version, corrected: Sequence[_Corrected]) -> list[_Corrected]:
    """Return the latest images to score a version on, each with its latest correct class."""
    latest: dict[str, _Corrected] = {}
    for image in corrected:
        if image.model in {"", version.info.name}:
            latest.setdefault(image.name, image)
    return [image for image in latest.values() if image.label in version.info.labels][:_MOST_IMAGES]
