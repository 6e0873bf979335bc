"""Traces of requests for OpenTelemetry: from the API through the queue to the batch.

They are off unless OTEL_EXPORTER_OTLP_ENDPOINT says where to send them. Nothing of OpenTelemetry is imported then, and
these functions do nothing: see `Span`. Only otlp.py uses OpenTelemetry.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Protocol
from urllib.parse import unquote

from dotenv import dotenv_values

from runtime.environment import env_file
from runtime.errors import SetupError
from runtime.tracing.span import Headers, Kind, Span, Tracer, Value

_INSTALL = ".venv/bin/python -m pip install --no-deps --require-hashes -r deploy/requirements/tracing.txt"
_NONE: Mapping[str, Value] = {}
_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"
_HEADER = re.compile(r"[ \t]*[\w!#$&'*+.^`|~-]+[ \t]*=[ \t!#-+\--:<-\[\]-~]*", re.ASCII)
# The share of traces recorded that no caller began: OpenTelemetry's default, all of them, costs 6 % of processor time.
_RECORDED_RATIO = "0.05"


class Settings(Protocol):
    """The setting that turns traces on."""

    @property
    def otel_exporter_otlp_endpoint(self) -> str | None:
        """The URL that traces are sent to; None if they are off."""


_NOT_RECORDED = Span()
_tracer: Tracer | None = None


def require(settings: Settings) -> None:
    """Raise `SetupError` if traces are on, and OpenTelemetry is not installed or its headers are damaged."""
    if not settings.otel_exporter_otlp_endpoint:
        return
    _check_headers({**_from_file(), **os.environ})
    try:
        import runtime.tracing.otlp  # noqa: F401 - not at the top, since it takes a fifth of a second, and may not be possible
    except ImportError as err:
        raise SetupError(f"OTEL_EXPORTER_OTLP_ENDPOINT is set, and {err.name} is not installed:\n  {_INSTALL}") from err


def start(settings: Settings, service: str) -> None:
    """Start tracing in this process, as one of `service`, if the settings turn it on.

    Call it in the process itself, after any fork. Raises `SetupError` if OpenTelemetry is not installed.
    """
    require(settings)
    if not settings.otel_exporter_otlp_endpoint:
        return
    for name, value in _from_file().items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("OTEL_SERVICE_NAME", service)
    _set_sampler()
    from runtime.tracing import otlp

    use(otlp.exporting())


def _from_file() -> dict[str, str]:
    """Return OpenTelemetry's own settings from the settings file."""
    return {name: value for name, value in dotenv_values(env_file()).items() if name.startswith("OTEL_") and value}


def _check_headers(environment: Mapping[str, str]) -> None:
    """Raise `SetupError` if headers are damaged: OpenTelemetry's SDK would log the key that they may contain."""
    for name in _HEADERS:
        headers = [header for header in environment.get(name, "").split(",") if header.strip()]
        if not all(_HEADER.fullmatch(header) and unquote(header).isprintable() for header in headers):
            raise SetupError(
                f"{name}=...: It must be NAME=VALUE, or several with commas between them, with what is not a letter or "
                "a digit encoded, as in an address."
            )


def _set_sampler() -> None:
    """Sample a share of the traces, unless the environment names a sampler."""
    if not os.environ.get("OTEL_TRACES_SAMPLER"):
        os.environ["OTEL_TRACES_SAMPLER"] = "parentbased_traceidratio"
        os.environ["OTEL_TRACES_SAMPLER_ARG"] = os.environ.get("OTEL_TRACES_SAMPLER_ARG") or _RECORDED_RATIO


def use(tracer: Tracer | None) -> None:
    """Set the tracer that makes the spans; None turns tracing off."""
    global _tracer  # a process has one, as it has one log
    _tracer = tracer


def stop() -> None:
    """Send the spans that are not sent yet, for some seconds at most."""
    if _tracer:
        _tracer.stop()


def is_on() -> bool:
    """Return whether tracing is on."""
    return _tracer is not None


def span(
    name: str,
    attributes: Mapping[str, Value] = _NONE,
    *,
    kind: Kind = "internal",
    parent: Headers | Span | None = None,
    started_s_ago: float = 0,
    links: Sequence[Span] = (),
) -> Span:
    """Begin a span: a child of the current one or of `parent`, which is a span or another process's headers."""
    if _tracer is None:
        return _NOT_RECORDED
    return _tracer.span(name, attributes, kind, parent, started_s_ago, links)


def current() -> Span:
    """Return the current span."""
    return _tracer.current() if _tracer else _NOT_RECORDED


def carried() -> Headers:
    """Return the headers with which another process continues the current span; empty if traces are off."""
    return _tracer.carried() if _tracer else {}


def trace_id() -> str | None:
    """Return the id of the current trace, which its spans and log lines share."""
    return _tracer.trace_id() if _tracer else None
