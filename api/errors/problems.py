"""Says what went wrong: in headers for everybody, and for `/v1` as a problem document (RFC 9457)."""

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

# A header takes printable ASCII alone (RFC 9110); a message may also have names of classes in it.
_UNPRINTABLE = re.compile(r"[^ -~]")
_QUOTES = str.maketrans("“”", '""')


def applies_to(path: str) -> bool:
    """Return whether an address belongs to `/v1`."""
    return f"{path}/".startswith(PREFIX)


def error_headers(err: ServiceError) -> Headers:
    """Return the headers that say what went wrong, and when to come back."""
    headers = Headers({"X-Error": f"{err.code}: {_UNPRINTABLE.sub('?', str(err).translate(_QUOTES))}"})
    if err.retry_after_s is not None:
        headers["Retry-After"] = str(err.retry_after_s)
    if isinstance(err, UnsupportedEncoding):
        headers["Accept-Encoding"] = ", ".join(content_encoding.SUPPORTED)
    if err.status == KeyRequired.status:
        headers.setlist("WWW-Authenticate", CHALLENGES)
    return headers


def problem(code: str, status: int, detail: str, request_id: str | None = None, root: str = "") -> dict[str, Any]:
    """Return a problem as RFC 9457 writes it; its type is an address, in an API under `root`, that says more of it."""
    title = code.replace("-", " ").capitalize()
    fields = {"type": root + TYPES + code, "title": title, "status": status, "detail": detail, "code": code}
    return {**fields, "request_id": request_id} if request_id else fields


def document(err: ServiceError, request_id: str, root: str) -> bytes:
    """Return the body of the answer to a request that failed."""
    return json.dumps(problem(err.code, err.status, str(err), request_id, root)).encode()
