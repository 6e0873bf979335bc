"""Error responses in the format of the protocol that a request's path belongs to."""

import json
from collections.abc import Mapping
from typing import Any

from api.errors import problems
from api.v2 import errors as v2_errors
from runtime.errors import ServiceError

# The response of `/predict` when it has no prediction.
FAILED_PREDICTION: Mapping[str, Any] = {"success": False, "prediction": None, "score": None}
_FAILED_PREDICTION = json.dumps(FAILED_PREDICTION).encode()


def document(path: str, err: ServiceError, request_id: str, root: str) -> tuple[str, bytes] | None:
    """Return an error's media type and body for programs; None for the page's paths, which are for people.

    `root` is the path prefix under which the API is served; `path` does not include it.
    """
    if problems.applies_to(path):
        return problems.MEDIA_TYPE, problems.document(err, request_id, root)
    if v2_errors.applies_to(path):
        return v2_errors.MEDIA_TYPE, v2_errors.document(str(err))
    if path.startswith("/predict"):
        return "application/json", _FAILED_PREDICTION
    return None
