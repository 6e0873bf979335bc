"""Compares an answer with the one on a page, except for values that differ each time or by processor."""

import json
import re

import pytest

ID = re.compile(r"[0-9a-f]{32}")
# These only need to have the same type.
DIFFERENT_EACH_TIME = {
    *("created", "time", "version", "precision"),
    *("queue_ms", "decode_ms", "inference_ms", "batch_size"),
}


def parse(answer: str) -> object:
    """Return the value of a JSON text, any other text itself, with its scores in two digits."""
    try:
        return json.loads(answer)
    except ValueError:
        return re.sub(r"\b0\.\d+", lambda score: f"{float(score[0]):.2f}", answer.strip())


def ids(shown: object, given: object) -> dict[str, str]:
    """Return the actual ids by the ids that the page shows in the same places."""
    if isinstance(shown, dict) and isinstance(given, dict):
        return {name: it for key in shown.keys() & given.keys() for name, it in ids(shown[key], given[key]).items()}
    if isinstance(shown, list) and isinstance(given, list):
        return {name: it for pair in zip(shown, given, strict=False) for name, it in ids(*pair).items()}
    if isinstance(shown, str) and isinstance(given, str) and ID.fullmatch(shown) and ID.fullmatch(given):
        return {shown: given}
    return {}


def expected(shown: object, ids: dict[str, str], name: str = "") -> object:
    """Return an object that equals every answer that the page may show this way."""
    if isinstance(shown, dict):
        return {key: expected(value, ids, key) for key, value in shown.items()}
    if isinstance(shown, list):
        return [expected(value, ids) for value in shown]
    if name in DIFFERENT_EACH_TIME:
        return OfType((str,) if isinstance(shown, str) else (int, float))
    if isinstance(shown, float):
        return pytest.approx(shown, abs=0.01)
    return ids.get(shown, shown) if isinstance(shown, str) else shown


class OfType:
    """Equals any value of a type."""

    def __init__(self, types: tuple[type, ...]) -> None:
        self._types = types

    def __eq__(self, other: object) -> bool:
        return isinstance(other, self._types)

    def __hash__(self) -> int:
        return hash(self._types)

    def __repr__(self) -> str:
        return " or ".join(each.__name__ for each in self._types)
