"""`mlapi feedback`: lists and exports reports of wrong predictions, with their images."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from api.feedback import reports
from api.feedback.file import FeedbackFile
from api.feedback.reports import Report
from mlapi.collection import sorting
from runtime.errors import SetupError
from runtime.escaping import escaped


@dataclass(frozen=True, slots=True)
class KeptReport:
    """A report, and its image if that is stored."""

    report: Report
    image: Path | None

    def __str__(self) -> str:
        report = self.report
        if report.text is not None:
            return escaped(report.text)
        right = f", but {escaped(report.right)}" if report.right else ""
        comment = f"\t{escaped(' '.join(report.comment.split()))}" if report.comment else ""
        return f"{self.image or 'image not kept'}\tnot {escaped(report.predicted)}{right}{comment}"

    def as_json(self) -> str:
        """Return the report as a JSON object on one line."""
        report = self.report
        fields = {
            "prediction": report.predicted if report.text is None else None,
            "score": report.score,
            "label": report.label,
            "none": report.none,
            "image": self.image and str(self.image),
            "text": report.text,
            "comment": report.comment,
            "time": report.time,
            "id": report.prediction_id,
            "model": report.model,
            "version": report.version,
            "key": report.key,
        }
        return json.dumps(fields, ensure_ascii=False)


def read(file: FeedbackFile, records: Path) -> Iterator[KeptReport]:
    """Yield the reports of a feedback file, then those of `/v1`, each the oldest first. Raises `SetupError`."""
    try:
        for report in reports.oldest_first(file.path, records):
            name = file.kept_name(report.image_hash)
            yield KeptReport(report, file.images.folder / name if name else None)
    except OSError as err:
        raise SetupError(f"{err.filename}: cannot be read: {err.strerror}") from err


def export_folders(found: Iterable[KeptReport], into: Path) -> tuple[int, int]:
    """Copy each image into its correct class's folder; return their number, and that of reports without image or class.

    If several reports are on one image, the last with a class counts, and those of `/v1` count as later. Raises
    `SetupError`.
    """
    right: dict[Path, str] = {}
    left_out = 0
    for each in found:
        if each.image and each.report.label:
            right[each.image] = each.report.label
        else:
            left_out += 1
    for image, label in right.items():
        sorting.copy(str(image), label, into)
    return len(right), left_out


def export_lines(found: Iterable[KeptReport], file: Path) -> int:
    """Write one JSON object per line, and return their number. Raises `SetupError`."""
    count = 0
    try:
        with file.open("w", encoding="utf-8") as lines:
            for count, each in enumerate(found, 1):  # noqa: B007 - the last is returned
                lines.write(f"{each.as_json()}\n")
    except OSError as err:
        raise SetupError(f"{file}: cannot be written: {err.strerror}") from err
    return count
