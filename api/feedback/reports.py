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

# Of each file, this much of its end is read for the latest reports, and no more of them than this.
_LATEST_BYTES, _LATEST_REPORTS = 1_000_000, 5_000
# How the right class is shown of a picture that the model has no class for.
NO_CLASS = "none of the classes"


@dataclass(frozen=True, slots=True)
class Report:
    """A report that a prediction is wrong: its image's hash, its class and score, and the right class.

    `label` is None where the report does not say the right class, and where the model has no such class; then `none`
    is true. Feedback of `/v1` also has a comment, when it came (ISO 8601), the id of the prediction, which model of
    which version made that, and whose key was used, as far as there are any.

    A report may be any text. One that is not a JSON object with the class that was predicted has that `text` alone.
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
        """The right class as it is shown, "" where nobody knows it."""
        return NO_CLASS if self.none else self.label or ""


def oldest_first(file: Path, records: Path) -> Iterator[Report]:
    """Yield the reports of the page and of `/feedback`, then those of `/v1`; a file that is not there has none.

    The files are read line by line, so they may be of any size. Raises `OSError`.
    """
    yield from map(_report, _lines(file))
    yield from filter(None, map(_feedback, _lines(records)))


def latest(file: Path, records: Path) -> list[Report]:
    """Return the latest reports of the page and the latest feedback of `/v1` in turn, each the newest first.

    Reports do not tell their time, so nobody knows which of the two kinds is newer. Those that are any text are left
    out. Raises `StorageUnavailable`.
    """
    try:
        reports = (report for line in _last_lines(file) if (report := _report(line)).text is None)
        feedback = filter(None, map(_feedback, _last_lines(records)))
        return [each for pair in zip_longest(reports, feedback) for each in pair if each]
    except OSError as err:
        raise StorageUnavailable("Feedback cannot be read at the moment. Try again shortly.") from err


def confusions(reports: Iterable[Report], most: int) -> list[tuple[str, str, int]]:
    """Return which classes were taken for which others, and how often: predicted, right, count; the most frequent."""
    pairs = Counter((each.predicted, each.right) for each in reports if each.right)
    return [(predicted, right, count) for (predicted, right), count in pairs.most_common(most)]


def _lines(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as lines:
            yield from lines
    except FileNotFoundError:
        return


def _last_lines(file: Path) -> list[bytes]:
    """Return the whole lines in the last part of a file, the last one first; none where there is no file."""
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
    """Return the report of the page or of `/feedback` that a line is.

    In reports of the page, which have an id, the label is `null` where the model has no class for the picture.
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
    """Return the report that a line of `/v1`'s feedback is; None where the prediction is right, or the line damaged."""
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
    """Return the JSON object that a line is, an empty one where it is none."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _text(value: object) -> str | None:
    """Return a text, where half a character (a lone surrogate) may be in JSON, as one that can be shown."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else None


def _number(value: Any) -> float | None:  # noqa: ANN401 - of JSON
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
