"""What pydantic found wrong, as people are told it."""

from collections.abc import Mapping
from typing import Any


def said(problem: Mapping[str, Any]) -> str:
    """Return what is wrong by one of a `ValidationError`'s `errors()`: of a check of ours, its own words alone."""
    return str(problem["ctx"]["error"] if problem["type"] == "value_error" else problem["msg"])
