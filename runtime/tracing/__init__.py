"""Traces: what became of one request, from the API through the queue to its batch, for OpenTelemetry.

They are off unless OTEL_EXPORTER_OTLP_ENDPOINT says where to send them. Nothing of OpenTelemetry is imported then, and
what is called here does nothing: see `Span`. How it is done otherwise is in otlp.py, and in no other place.
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
# Of the traces that no caller has begun: OpenTelemetry's own default, all of them, costs 6 % of the processors' time.
_RECORDED_RATIO = "0.05"


class Settings(Protocol):
    """The setting that turns traces on."""

    @property
    def otel_exporter_otlp_endpoint(self) -> str | None:
        """Where traces are sent; None where they are off."""


_NOT_RECORDED = Span()
_tracer: Tracer | None = None


def require(settings: Settings) -> None:
    """Raise `SetupError` where traces are on, and OpenTelemetry is not installed or its headers are damaged."""
    if not settings.otel_exporter_otlp_endpoint:
        return
    _check_headers({**_from_file(), **os.environ})
    try:
        import runtime.tracing.otlp  # noqa: F401 - not at the top, since it takes a fifth of a second, and may not be possible
    except ImportError as err:
        raise SetupError(f"OTEL_EXPORTER_OTLP_ENDPOINT is set, and {err.name} is not installed:\n  {_INSTALL}") from err


def start(settings: Settings, service: str) -> None:
    """Trace from now on in this process, which counts as one of `service`, where the settings say so.

    To be called in the process itself, after any fork. Raises `SetupError` where OpenTelemetry is not installed.
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
    """Return OpenTelemetry's own settings in the file where all others may stand, too."""
    return {name: value for name, value in dotenv_values(env_file()).items() if name.startswith("OTEL_") and value}


def _check_headers(environment: Mapping[str, str]) -> None:
    """Raise `SetupError` where headers are damaged: OpenTelemetry's SDK would log the key that they may have."""
    for name in _HEADERS:
        headers = [header for header in environment.get(name, "").split(",") if header.strip()]
        if not all(_HEADER.fullmatch(header) and unquote(header).isprintable() for header in headers):
            raise SetupError(
                f"{name}=...: It must be NAME=VALUE, or several with commas between them, with what is not a letter or "
                "a digit encoded, as in an address."
            )


def _set_sampler() -> None:
    """Have some of the traces recorded, where nobody has said which."""
    if not os.environ.get("OTEL_TRACES_SAMPLER"):
        os.environ["OTEL_TRACES_SAMPLER"] = "parentbased_traceidratio"
        os.environ["OTEL_TRACES_SAMPLER_ARG"] = os.environ.get("OTEL_TRACES_SAMPLER_ARG") or _RECORDED_RATIO


def use(tracer: Tracer | None) -> None:
    """Have a tracer make the spans, or nobody."""
    global _tracer  # a process has one, as it has one log
    _tracer = tracer


def stop() -> None:
    """Send what is recorded and not sent yet, for some seconds at most."""
    if _tracer:
        _tracer.stop()


def is_on() -> bool:
    """Tell whether anything may be recorded."""
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
    """Begin a span, a child of the current one, or of `parent`: a span, or what another process has carried here."""
    if _tracer is None:
        return _NOT_RECORDED
    return _tracer.span(name, attributes, kind, parent, started_s_ago, links)


def current() -> Span:
    """Return the current span."""
    return _tracer.current() if _tracer else _NOT_RECORDED


def carried() -> Headers:
    """Return the headers by which another process goes on with the current span; none where traces are off."""
    return _tracer.carried() if _tracer else {}


def trace_id() -> str | None:
    """Return the id of the current trace, by which its spans and log lines are found."""
    return _tracer.trace_id() if _tracer else None
