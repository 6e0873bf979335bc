"""Logs each request in one line, with an id that also marks its lines in the model service's log."""

import logging
import re
import time
from urllib.parse import quote
from uuid import uuid4

from flask import Flask, Response, g, request

from runtime import logs

log = logging.getLogger(__name__)

HEADER = "X-Request-ID"
# Request ids that a proxy or a client may set; any other could forge log lines, or fill the log.
_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
# Polled every few seconds by monitoring.
QUIET_PATHS = {"/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"}


def install(app: Flask) -> None:
    """Log the requests of `app`."""
    app.before_request(_start)
    app.after_request(_finish)


def request_id(given: str | None) -> str:
    """Return the caller's request id if it is valid, else a new one."""
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
