"""Checks whether an answer is a success: exactly the answer that the service promises."""

import json
from collections.abc import Mapping
from typing import NamedTuple

# Texts that the page has whenever it works, and only when a report was kept.
_UPLOAD_FIELD = b'name="file"'
_THANKS = b'role="status"'
_LONGEST_QUOTE = 60


class WrongAnswer(Exception):
    """The answer is not a correct success; the message is the reason that the report counts."""


class Answer(NamedTuple):
    """A response; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Prediction(NamedTuple):
    """A label and its score, 0 to 1."""

    label: str
    score: float


def read_prediction(answer: Answer) -> Prediction:
    """Return the prediction. Raises `WrongAnswer` unless status, keys and values are those of a success."""
    _require_ok(answer)
    match _parse_json(answer.body):
        case {"success": True, "prediction": str(label), "score": float() | int() as score, **others} if not others:
            return Prediction(_checked_label(label), _checked_score(score))
    raise WrongAnswer(f"200, but not a success: {_quote(answer.body)}")


def read_page(answer: Answer) -> None:
    """Raise `WrongAnswer` unless this is the page with its upload form."""
    _require_ok(answer)
    if _UPLOAD_FIELD not in answer.body:
        raise WrongAnswer("200, but not the page with the upload form")


def read_thanks(answer: Answer) -> None:
    """Raise `WrongAnswer` unless the page says that the report was kept."""
    read_page(answer)
    if _THANKS not in answer.body:
        raise WrongAnswer("200, but the report was not kept")


def _require_ok(answer: Answer) -> None:
    if answer.status != 200:
        reason = answer.headers.get("x-error") or "without an X-Error header"
        # Without the number of seconds: every number would be a reason of its own.
        retry = " (Retry-After)" if answer.headers.get("retry-after") else ""
        raise WrongAnswer(f"{answer.status} {reason}{retry}")


def _parse_json(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError as err:
        raise WrongAnswer(f"200, but not JSON: {_quote(body)}") from err


def _checked_label(label: str) -> str:
    if not label.strip():
        raise WrongAnswer("200, but the prediction is empty")
    return label


def _checked_score(score: float) -> float:
    # Python's parser accepts NaN, which is in no range; and a bool is an int in Python.
    if isinstance(score, bool) or not 0 <= score <= 1:
        raise WrongAnswer("200, but the score is not from 0 to 1")
    return float(score)


def _quote(body: bytes) -> str:
    text = " ".join(body.decode(errors="replace").split())
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}..."
