"""Errors as the protocol has them: an object with a text."""

import json

MEDIA_TYPE = "application/json"


def applies_to(path: str) -> bool:
    """Return whether an address belongs to the protocol."""
    return f"{path}/".startswith("/v2/")


def document(text: str) -> bytes:
    """Return the body of the answer to a request that failed."""
    return json.dumps({"error": text}).encode()
