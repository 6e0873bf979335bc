"""What was reported as wrong lately, by the page and by programs: for operators, and for the list of confusions."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path, PurePath

from jobs.errors import StorageUnavailable
from jobs.schema import image_hash

# Of each file, this much of its end is read, which holds thousands of reports.
_LATEST_BYTES = 1_000_000
# The right class of what the model has no class for.
NO_CLASS = "none of the classes"


@dataclass(frozen=True, slots=True)
class WrongPrediction:
    """A wrong prediction: the hash of its image, its class, and the right one, which is "" where nobody said it.

    `model` is the name of the model that predicted it, where that is known.
    """

    image_hash: str
    predicted: str
    right: str
    model: str = ""


def latest(file: Path, records: Path) -> list[WrongPrediction]:
    """Return the latest reports of the page and the latest feedback of `/v1` in turn, each the newest first.

    Reports do not tell their time, so nobody knows which of the two kinds is newer. What says in other words what is
    wrong is left out. Raises `StorageUnavailable`.
    """
    try:
        reports = map(_report, _objects(file, "prediction"))
        feedback = map(_record, _objects(records, "predicted_label"))
        return [each for pair in zip_longest(reports, feedback) for each in pair if each]
    except OSError as err:
        raise StorageUnavailable("Feedback cannot be read at the moment. Try again shortly.") from err


def confusions(wrong: Iterable[WrongPrediction], most: int) -> list[tuple[str, str, int]]:
    """Return which classes were taken for which others, and how often: predicted, right, count; the most frequent."""
    pairs = Counter((each.predicted, each.right) for each in wrong if each.right)
    return [(predicted, right, count) for (predicted, right), count in pairs.most_common(most)]


def _objects(file: Path, field: str) -> Iterator[dict[str, object]]:
    """Yield the JSON objects at the end of a file that are about a wrong prediction, which they have in a field."""
    for line in reversed(_last_lines(file)):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):  # a report may be any text
            continue
        if isinstance(found, dict) and isinstance(found.get(field), str) and not found.get("correct"):
            yield found


def _last_lines(file: Path) -> list[bytes]:
    """Return the whole lines in the last part of a file; none where there is no file."""
    try:
        with file.open("rb") as opened:
            start = max(0, file.stat().st_size - _LATEST_BYTES)
            opened.seek(start)
            lines = opened.read(_LATEST_BYTES).splitlines()
    except FileNotFoundError:
        return []
    return lines[1:] if start else lines


def _report(told: dict[str, object]) -> WrongPrediction:
    name = PurePath(str(told.get("filename"))).name
    return WrongPrediction(image_hash(name), _text(told["prediction"]), _right(told))


def _record(told: dict[str, object]) -> WrongPrediction:
    image, model = str(told.get("image")), _text(told.get("model") or "")
    return WrongPrediction(image, _text(told["predicted_label"]), _right(told), model)


def _right(told: dict[str, object]) -> str:
    """Return the right class. What the model has no class for is `null`, in reports of the page."""
    label = told.get("label")
    if isinstance(label, str):
        return _text(label)
    return NO_CLASS if "label" in told and "id" in told else ""


def _text(value: object) -> str:
    """Return a string of JSON, where half a character (a lone surrogate) may be, as one that can be shown."""
    return str(value).encode(errors="replace").decode()
