"""The answer to a request that failed, in the form of the protocol whose address it asked for."""

import json
from collections.abc import Mapping
from typing import Any

from api.errors import problems
from api.v2 import errors as v2_errors
from runtime.errors import ServiceError

# What `/predict` answers whenever it has no prediction.
FAILED_PREDICTION: Mapping[str, Any] = {"success": False, "prediction": None, "score": None}
_FAILED_PREDICTION = json.dumps(FAILED_PREDICTION).encode()


def document(path: str, err: ServiceError, request_id: str, root: str) -> tuple[str, bytes] | None:
    """Return the media type and the body for programs; None for an address of the page, which is for people.

    `root` is the path under which the API is reached, and `path` comes after it.
    """
    if problems.applies_to(path):
        return problems.MEDIA_TYPE, problems.document(err, request_id, root)
    if v2_errors.applies_to(path):
        return v2_errors.MEDIA_TYPE, v2_errors.document(str(err))
    if path.startswith("/predict"):
        return "application/json", _FAILED_PREDICTION
    return None
