"""Describes errors: in headers for every client, and for `/v1` as problem documents (RFC 9457)."""

import json
import re
from typing import Any

from werkzeug.datastructures import Headers

from api.access.access import CHALLENGES
from api.http import content_encoding
from runtime.errors import KeyRequired, ServiceError, UnsupportedEncoding

PREFIX = "/v1/"
MEDIA_TYPE = "application/problem+json"
TYPES = f"{PREFIX}problems/"

# A header holds only printable ASCII (RFC 9110); a message may also contain class names.
_UNPRINTABLE = re.compile(r"[^ -~]")
_QUOTES = str.maketrans("“”", '""')


def applies_to(path: str) -> bool:
    """Return whether a path belongs to `/v1`."""
    return f"{path}/".startswith(PREFIX)


def error_headers(err: ServiceError) -> Headers:
    """Return the headers that describe an error, and when to retry."""
    headers = Headers({"X-Error": f"{err.code}: {_UNPRINTABLE.sub('?', str(err).translate(_QUOTES))}"})
    if err.retry_after_s is not None:
        headers["Retry-After"] = str(err.retry_after_s)
    if isinstance(err, UnsupportedEncoding):
        headers["Accept-Encoding"] = ", ".join(content_encoding.SUPPORTED)
    if err.status == KeyRequired.status:
        headers.setlist("WWW-Authenticate", CHALLENGES)
    return headers


def problem(code: str, status: int, detail: str, request_id: str | None = None, root: str = "") -> dict[str, Any]:
    """Return an RFC 9457 problem; its type is the URL, in an API under `root`, of a page that explains it."""
    title = code.replace("-", " ").capitalize()
    fields = {"type": root + TYPES + code, "title": title, "status": status, "detail": detail, "code": code}
    return {**fields, "request_id": request_id} if request_id else fields


def document(err: ServiceError, request_id: str, root: str) -> bytes:
    """Return the body of an error response."""
    return json.dumps(problem(err.code, err.status, str(err), request_id, root)).encode()
