"""Errors in the protocol's format: an object with a text."""

import json

MEDIA_TYPE = "application/json"


def applies_to(path: str) -> bool:
    """Return whether a path belongs to the protocol."""
    return f"{path}/".startswith("/v2/")


def document(text: str) -> bytes:
    """Return the body of an error response."""
    return json.dumps({"error": text}).encode()
