"""What people reported as wrong: read from the two feedback files, with the images that are kept beside them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from glob import escape
from pathlib import Path, PurePath

from jobs.errors import SetupError
from mlapi.collection import sorting

_IMAGES = "images"  # the folder beside the file


@dataclass(frozen=True, slots=True)
class Report:
    """A report: the class that was wrong and its score, the right one where somebody said it, the image if it is kept.

    One that came by `/v1` also has a comment, when it came (ISO 8601), the id of the prediction, which model of which
    version made that, and whose key was used, as far as there are any. A report may be any text, and then is nothing
    but that.
    """

    prediction: str | None = None
    score: float | None = None
    label: str | None = None
    image: Path | None = None
    text: str | None = None
    comment: str | None = None
    time: str | None = None
    id: str | None = None
    model: str | None = None
    version: str | None = None
    key: str | None = None

    def __str__(self) -> str:
        if self.text is not None:
            return self.text
        right = f", but {self.label}" if self.label else ""
        comment = f"\t{' '.join(self.comment.split())}" if self.comment else ""
        return f"{self.image or 'image not kept'}\tnot {self.prediction}{right}{comment}"

    def as_json(self) -> str:
        """Return the report as an object on one line."""
        return json.dumps(asdict(self), default=str, ensure_ascii=False)


def read(file: Path, records: Path) -> Iterator[Report]:
    """Yield the reports of a feedback file, then those of `/v1`'s records, each the oldest first.

    A file that is not there has none, and a record that a prediction was right is no report. Raises `SetupError`.
    """
    images = file.parent / _IMAGES
    for line in _lines(file):
        yield _parse(line, images)
    for line in _lines(records):
        report = _parse_record(line, images)
        if report:
            yield report


def _lines(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                yield line.rstrip("\n")
    except FileNotFoundError:
        return
    except OSError as err:
        raise SetupError(f"{file}: cannot be read: {err.strerror}") from err


def export_folders(reports: Iterable[Report], into: Path) -> tuple[int, int]:
    """Copy each image into the folder of its right class; return how many, and how many reports have no image or class.

    Of several reports on one image, the last that names a class counts, those of `/v1` as the later ones. Raises
    `SetupError`.
    """
    reports = list(reports)
    right = {report.image: report.label for report in reports if report.image and report.label}
    for image, label in right.items():
        sorting.copy(str(image), label, into)
    return len(right), sum(not (report.image and report.label) for report in reports)


def export_lines(reports: Iterable[Report], file: Path) -> int:
    """Write an object a line, and return how many. Raises `SetupError`."""
    lines = [f"{report.as_json()}\n" for report in reports]
    try:
        file.write_text("".join(lines), encoding="utf-8")
    except OSError as err:
        raise SetupError(f"{file}: cannot be written: {err.strerror}") from err
    return len(lines)


def _parse(line: str, images: Path) -> Report:
    try:
        told = dict(json.loads(line))
        json.dumps(told, ensure_ascii=False).encode()  # half a character (a lone surrogate) could not be printed
        image = images / PurePath(told["filename"]).name  # a report is a stranger's, and leads nowhere else
        label = told.get("label")
        return Report(
            str(told["prediction"]),
            float(told["score"]),
            label if isinstance(label, str) else None,
            image if image.is_file() else None,
        )
    except (ValueError, TypeError, LookupError, RecursionError, OSError):  # the last for a name that is too long
        return Report(text=line)


def _parse_record(line: str, images: Path) -> Report | None:
    """Return the report that a record is, or None where the prediction was right or the line is not whole."""
    try:
        told = dict(json.loads(line))
        if told["correct"]:
            return None
        image = next(images.glob(f"{escape(PurePath(told['image']).name)}.*"), None)
        also = {name: told.get(name) for name in ("comment", "time", "model", "version", "key")}
        label, score = told["predicted_label"], told["predicted_score"]
        return Report(label, score, told["label"], image, id=told.get("prediction"), **also)
    except (ValueError, TypeError, LookupError):
        return None
