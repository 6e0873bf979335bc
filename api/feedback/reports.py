"""Reads the reports of wrong predictions: those of the page and of `/feedback`, and the feedback of `/v1`."""

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path, PurePath
from typing import Any

from jobs.schema import image_hash
from runtime.errors import StorageUnavailable

# The latest reports are read from this much of each file's end, up to this many.
_LATEST_BYTES, _LATEST_REPORTS = 1_000_000, 5_000
# Shown as the correct class of a picture that the model has no class for.
NO_CLASS = "none of the classes"


@dataclass(frozen=True, slots=True)
class Report:
    """A report that a prediction is wrong: the image's hash, the predicted class and score, and the correct class.

    `label` is None if the report does not give the correct class, or if the model has no such class; then `none` is
    true. Feedback of `/v1` may also have a comment, its time (ISO 8601), the prediction's id, the model and version
    that made it, and the API key's name.

    A report may be any text. If it is not a JSON object with a predicted class, only `text` is set.
    """

    text: str | None = None
    predicted: str = ""
    score: float | None = None
    image_hash: str = ""
    label: str | None = None
    none: bool = False
    comment: str | None = None
    time: str | None = None
    prediction_id: str | None = None
    model: str | None = None
    version: str | None = None
    key: str | None = None

    @property
    def right(self) -> str:
        """The correct class as displayed, "" if unknown."""
        return NO_CLASS if self.none else self.label or ""


def oldest_first(file: Path, records: Path) -> Iterator[Report]:
    """Yield the reports of the page and of `/feedback`, then those of `/v1`; a missing file has none.

    The files are read line by line, so they may have any size. Raises `OSError`.
    """
    yield from map(_report, _lines(file))
    yield from filter(None, map(_feedback, _lines(records)))


def latest(file: Path, records: Path) -> list[Report]:
    """Return the latest reports of the page and the latest feedback of `/v1` alternately, each newest first.

    Reports have no time, so the two kinds cannot be ordered. Plain text reports are left out. Raises
    `StorageUnavailable`.
    """
    try:
        reports = (report for line in _last_lines(file) if (report := _report(line)).text is None)
        feedback = filter(None, map(_feedback, _last_lines(records)))
        return [each for pair in zip_longest(reports, feedback) for each in pair if each]
    except OSError as err:
        raise StorageUnavailable("Feedback cannot be read at the moment. Try again shortly.") from err


def confusions(reports: Iterable[Report], most: int) -> list[tuple[str, str, int]]:
    """Return the most frequent confusions: predicted class, correct class, count."""
    pairs = Counter((each.predicted, each.right) for each in reports if each.right)
    return [(predicted, right, count) for (predicted, right), count in pairs.most_common(most)]


def _lines(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as lines:
            yield from lines
    except FileNotFoundError:
        return


def _last_lines(file: Path) -> list[bytes]:
    """Return the whole lines in a file's last part, the last one first; none without a file."""
    try:
        with file.open("rb") as opened:
            start = max(0, opened.seek(0, os.SEEK_END) - _LATEST_BYTES)
            opened.seek(start)
            first, *lines = opened.read(_LATEST_BYTES).rstrip(b"\n").rsplit(b"\n", _LATEST_REPORTS)
    except FileNotFoundError:
        return []
    begins_whole = start == 0 and len(lines) < _LATEST_REPORTS
    return [*reversed(lines), *([first] if begins_whole and first else [])]


def _report(line: bytes) -> Report:
    """Parse a line of the page's or `/feedback`'s reports.

    In reports of the page, which have an id, the label is `null` if the model has no class for the picture.
    """
    fields = _fields(line)
    predicted = _text(fields.get("prediction"))
    if predicted is None:
        return Report(line.decode(errors="replace").rstrip("\r\n"))
    return Report(
        predicted=predicted,
        score=_number(fields.get("score")),
        image_hash=image_hash(PurePath(_text(fields.get("filename")) or "").name),
        label=_text(fields.get("label")),
        none="id" in fields and "label" in fields and fields["label"] is None,
    )


def _feedback(line: bytes) -> Report | None:
    """Parse a line of `/v1`'s feedback; None if the prediction was right, or the line is damaged."""
    fields = _fields(line)
    predicted = _text(fields.get("predicted_label"))
    if predicted is None or fields.get("correct"):
        return None
    return Report(
        predicted=predicted,
        score=_number(fields.get("predicted_score")),
        image_hash=_text(fields.get("image")) or "",
        label=_text(fields.get("label")),
        none=fields.get("none") is True,
        prediction_id=_text(fields.get("prediction")),
        **{name: _text(fields.get(name)) for name in ("comment", "time", "model", "version", "key")},
    )


def _fields(line: bytes) -> dict[str, Any]:
    """Return a line's JSON object, or an empty one if it has none."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _text(value: object) -> str | None:
    """Return a text without lone surrogates, which JSON may contain but which cannot be displayed."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else None


def _number(value: Any) -> float | None:  # noqa: ANN401 - of JSON
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
