"""Traces requests as spans that continue their callers' traces, if tracing is on (see runtime/tracing)."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, g, request

from api.http import connection
from api.http.connection import Connection
from api.monitoring.request_log import QUIET_PATHS
from runtime import tracing
from runtime.tracing.span import Span, Value

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# WSGI variables and their names in OpenTelemetry's semantic conventions for HTTP.
_ATTRIBUTES = {
    "REQUEST_METHOD": "http.request.method",
    "PATH_INFO": "url.path",
    "wsgi.url_scheme": "url.scheme",
    "HTTP_HOST": "server.address",
    "REMOTE_ADDR": "client.address",
    "HTTP_USER_AGENT": "user_agent.original",
}


def install(app: Flask) -> None:
    """Trace the requests of `app`, if tracing is on."""
    if tracing.is_on():
        app.wsgi_app = _traced(app.wsgi_app)  # type: ignore[assignment]  # Flask's own way to add to it
        app.after_request(_describe)


def _traced(answer: "WSGIApplication") -> "Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]":
    def answer_traced(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["PATH_INFO"] in QUIET_PATHS:
            return answer(environ, start_response)
        with _span(environ, environ.setdefault(connection.ENVIRON_KEY, Connection())):
            return answer(environ, start_response)

    return answer_traced


def _span(environ: Mapping[str, Any], client: Connection) -> Span:
    """Return the span of a request, which starts when its first byte arrived."""
    attributes: dict[str, Value] = {name: environ[key] for key, name in _ATTRIBUTES.items() if key in environ}
    attributes["mlapi.receive_ms"] = 1000 * (client.received_at_s - client.began_at_s)
    return tracing.span(
        environ["REQUEST_METHOD"],
        attributes,
        kind="server",
        parent={name: environ.get(f"HTTP_{name.upper()}", "") for name in ("traceparent", "tracestate")},
        started_s_ago=time.monotonic() - client.began_at_s,
    )


def _describe(response: Response) -> Response:
    """Add the route and the status, which are known only after the response."""
    span = tracing.current()
    if request.url_rule:
        span.rename(f"{request.method} {request.url_rule.rule}")
        span.note({"http.route": request.url_rule.rule})
    span.note({"http.response.status_code": response.status_code, "mlapi.request_id": g.request_id})
    if response.status_code >= 500:
        span.fail(response.headers.get("X-Error", str(response.status_code)).partition(":")[0])
    return response
