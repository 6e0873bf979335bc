"""Rows of the results: a file's classes or its error."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from jobs.schema import ClassScore, JobFailure, Outcome
from runtime.errors import ServiceError

# As many as in the API's responses.
_SCORE_DIGITS = 4


class Choice(NamedTuple):
    """A candidate class and its score."""

    label: str
    score: float


class Row(NamedTuple):
    """A file's class and score, or its error: a code and message, as in the API's header `X-Error`.

    `top` has the most probable classes known, the best first; results store as many as requested.
    """

    path: str
    label: str | None = None
    score: float | None = None
    error: str | None = None
    top: tuple[Choice, ...] = ()

    @classmethod
    def of(cls, path: str, outcome: Outcome) -> "Row":
        """Return the row for a file's outcome."""
        if isinstance(outcome, JobFailure):
            return cls(as_text(path), error=f"{outcome.code}: {outcome.message}")
        return cls.classified(path, outcome.top or [ClassScore(outcome.label, outcome.class_index, outcome.score)])

    @classmethod
    def classified(cls, path: str, top: Iterable[ClassScore]) -> "Row":
        """Return the row of a file with these classes, the most probable first."""
        choices = tuple(Choice(each.label, round(each.score, _SCORE_DIGITS)) for each in top)
        return cls(as_text(path), *choices[0], top=choices)

    @classmethod
    def failed(cls, path: str, error: ServiceError) -> "Row":
        """Return the row of a file that could not be classified."""
        return cls.of(path, JobFailure.of(error))

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> "Row":
        """Return the row from its `as_dict` form. Raises `TypeError` if it is invalid."""
        row = cls(**{**told, "top": ()})
        if row.label is None:
            return row
        top = told.get("top", [{"label": row.label, "score": row.score}])
        return row._replace(top=tuple(Choice(**each) for each in top))

    def as_dict(self, top_k: int) -> dict[str, Any]:
        """Return the row as a JSON object with `top_k` classes; with one, only the label and score."""
        row: dict[str, Any] = {"path": self.path, "label": self.label, "score": self.score, "error": self.error}
        if top_k > 1:
            row["top"] = [each._asdict() for each in self.top[:top_k]] if self.label is not None else None
        return row


def as_text(path: str) -> str:
    r"""Return a path as written in results, which are UTF-8: its bytes that are not UTF-8 become escapes like `\xe9`.

    So do carriage returns, which Python's CSV writer before 3.13 does not quote, so that no reader accepts them.
    """
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\r", r"\x0d")
