"""Test pictures, each with its correct answer."""

import io
import itertools
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from testing import unique_images as images
from testing.answers import Answer, Prediction, WrongAnswer, read_prediction
from testing.unique_images import UniqueImages

# Batches of other sizes run other kernels, which round differently; in bf16, by some percent of a score.
_SCORE_TOLERANCE = 0.05

# The project's own photo; a folder of others gives more variety.
_DOG = Path(__file__).parent.parent / "tests" / "dog.jpeg"


def render(photos: Path | None, count: int = images.PICTURES) -> list[bytes]:
    """Return JPEG files of 400 to 800 pixels, no two alike: variants of a folder's photos. Raises `CannotRun`."""
    return list(images.render(images.find_photos(photos) if photos else [_DOG], count))


@dataclass(frozen=True, slots=True)
class Expected:
    """A picture's correct answers: several labels if rounding decides between them, and the approximate score."""

    labels: frozenset[str]
    score: float

    def check(self, answer: Prediction) -> None:
        """Raise `WrongAnswer` unless this is the picture's answer."""
        if answer.label not in self.labels or abs(answer.score - self.score) > _SCORE_TOLERANCE:
            raise WrongAnswer("200, but the answer to another picture")


class Question(NamedTuple):
    """A request's body, and the expected answer."""

    body: bytes
    expected: Expected


class Questions:
    """Produces requests for the prepared pictures in turn, never twice with the same bytes."""

    def __init__(self, pictures: Sequence[bytes], expected: Sequence[Expected]) -> None:
        self._images = UniqueImages(pictures)
        self._expected = itertools.cycle(expected)
        self._boundary = secrets.token_hex(16).encode()
        self.content_type = f"multipart/form-data; boundary={self._boundary.decode()}"

    def next(self) -> Question:
        """Return a form that was never sent before."""
        filename, data = self._images.next()
        form = io.BytesIO()
        form.write(b'--%b\r\nContent-Disposition: form-data; name="file"; ' % self._boundary)
        form.write(b'filename="%b"\r\nContent-Type: image/jpeg\r\n\r\n' % filename.encode())
        form.write(data)
        form.write(b"\r\n--%b--\r\n" % self._boundary)
        return Question(form.getvalue(), next(self._expected))


def check(status: int, headers: bytes, body: bytes, expected: Expected) -> None:
    """Raise `WrongAnswer` unless this is a success with the expected prediction."""
    found = re.search(rb"(?i)\r\nx-error: ([^\r]*)", headers)
    named = {"x-error": found[1].decode(errors="replace")} if found else {}
    expected.check(read_prediction(Answer(status, named, body)))
