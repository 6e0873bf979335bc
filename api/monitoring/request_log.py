"""One log line for each request, and the id by which it is found again in both services' logs."""

import logging
import re
import time
from urllib.parse import quote
from uuid import uuid4

from flask import Flask, Response, g, request

from runtime import logs

log = logging.getLogger(__name__)

HEADER = "X-Request-ID"
# What a proxy or a client may call a request; anything else could forge log lines, or fill them.
_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
# Asked every few seconds by whoever watches the service.
QUIET_PATHS = {"/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"}


def install(app: Flask) -> None:
    """Have `app` log its requests."""
    app.before_request(_start)
    app.after_request(_finish)


def request_id(given: str | None) -> str:
    """Return what a request is called: as the caller does, where that is sane."""
    return given if given and _SANE_ID.fullmatch(given) else uuid4().hex


def _start() -> None:
    g.started_s = time.monotonic()
    g.request_id = request_id(request.headers.get(HEADER))
    logs.start(request_id=g.request_id)


def _finish(response: Response) -> Response:
    response.headers[HEADER] = g.request_id
    level = logging.DEBUG if request.path in QUIET_PATHS else logging.INFO
    fields = {"status": response.status_code, "ms": round(1000 * (time.monotonic() - g.started_s), 1)}
    if "X-Error" in response.headers:
        fields["error"] = response.headers["X-Error"]
    log.log(level, "%s %s", request.method, quote(request.path), extra=fields)
    return response
