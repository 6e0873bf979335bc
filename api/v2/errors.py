"""Says what went wrong as the protocol does: an object with a text."""

import json

from flask import Response
from werkzeug.exceptions import HTTPException

from api.problems import error_headers
from jobs.errors import ServiceError

MEDIA_TYPE = "application/json"


def applies_to(path: str) -> bool:
    """Tell whether an address is the protocol's, so that its errors are told so."""
    return path == "/v2" or path.startswith("/v2/")


def document(text: str) -> bytes:
    """Return the body of the answer to a request that failed."""
    return json.dumps({"error": text}).encode()


def answer(err: ServiceError) -> Response:
    """Answer a request that failed."""
    return Response(document(str(err)), err.status, error_headers(err), content_type=MEDIA_TYPE)


def answer_http(err: HTTPException) -> Response:
    """Answer a request that Flask refuses."""
    headers = [(name, value) for name, value in err.get_headers() if name.lower() != "content-type"]
    return Response(document(err.description or ""), err.code or 500, headers, content_type=MEDIA_TYPE)
