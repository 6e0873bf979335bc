"""Readable messages for invalid input."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_PLAIN_HTTP = re.compile(r"https?://(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[^?#@\s]*)?", re.ASCII)


def said(problem: Mapping[str, Any]) -> str:
    """Return the message of one of a `ValidationError`'s `errors()`; of our own checks, only their words."""
    if problem["type"] == "model_type":  # its message names a class of ours
        return "Input should be an object"
    return str(problem["ctx"]["error"] if problem["type"] == "value_error" else problem["msg"])


def is_plain_http(url: str) -> bool:
    """Return whether a URL is HTTP or HTTPS without user, password or query, which messages would show."""
    try:
        return bool(_PLAIN_HTTP.fullmatch(url)) and urlsplit(url).port != 0
    except ValueError:  # the port is too high
        return False
