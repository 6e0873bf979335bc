"""What is wrong with what others have given, as people are told it."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_PLAIN_HTTP = re.compile(r"https?://(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[^?#@\s]*)?", re.ASCII)


def said(problem: Mapping[str, Any]) -> str:
    """Return what is wrong by one of a `ValidationError`'s `errors()`: of a check of ours, its own words alone."""
    if problem["type"] == "model_type":  # whose message names a class of ours
        return "Input should be an object"
    return str(problem["ctx"]["error"] if problem["type"] == "value_error" else problem["msg"])


def is_plain_http(url: str) -> bool:
    """Tell whether a URL is of HTTP or HTTPS, and has no user, password or query, which messages would show."""
    try:
        return bool(_PLAIN_HTTP.fullmatch(url)) and urlsplit(url).port != 0
    except ValueError:  # of a port that is too high
        return False
