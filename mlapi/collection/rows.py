"""What is known of a file once it was classified: a line of the results."""

from typing import NamedTuple

from jobs.schema import JobFailure, Outcome

# As many as the API's answers have.
_SCORE_DIGITS = 4


class Row(NamedTuple):
    """A file's class and score, or its error: a code and what it means, as in the API's header `X-Error`."""

    path: str
    label: str | None = None
    score: float | None = None
    error: str | None = None

    @classmethod
    def of(cls, path: str, outcome: Outcome) -> "Row":
        """Return what came of the file at `path`."""
        if isinstance(outcome, JobFailure):
            return cls(as_text(path), error=f"{outcome.code}: {outcome.message}")
        return cls(as_text(path), outcome.label, round(outcome.score, _SCORE_DIGITS))


def as_text(path: str) -> str:
    r"""Return a path as it stands in results, which are UTF-8: bytes of it that are not UTF-8 are like `\xe9`.

    So are carriage returns, which Python's CSV writer before 3.13 does not quote, and no reader then takes.
    """
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\r", r"\x0d")
