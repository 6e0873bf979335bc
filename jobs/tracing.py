"""Traces: what became of one request, from the API through the queue to its batch, for OpenTelemetry.

They are off unless OTEL_EXPORTER_OTLP_ENDPOINT says where to send them. Nothing of OpenTelemetry is imported then, and
what is called here does nothing: see `Span`. How it is done otherwise is in jobs/spans.py, and in no other place.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Literal, Protocol
from urllib.parse import unquote

from dotenv import dotenv_values

from jobs.schema import ImageJob
from jobs.settings import SharedSettings, env_file
from runtime.errors import ServiceError, SetupError

Kind = Literal["internal", "server", "producer", "consumer"]
Value = str | int | float | bool
# What crosses from one process to the next: the W3C's headers `traceparent` and, where there is one, `tracestate`.
Headers = Mapping[str, str]

_INSTALL = ".venv/bin/python -m pip install --no-deps --require-hashes -r deploy/requirements/tracing.txt"
_NONE: Mapping[str, Value] = {}
_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"
_HEADER = re.compile(r"[ \t]*[\w!#$&'*+.^`|~-]+[ \t]*=[ \t!#-+\--:<-\[\]-~]*", re.ASCII)
# Of the traces that no caller has begun: OpenTelemetry's own default, all of them, costs 6 % of the processors' time.
_RECORDED_RATIO = "0.05"


class Span:
    """A part of a trace, which nobody records. With `with`, it is the current one meanwhile, and ends then."""

    recorded = False

    def __enter__(self) -> "Span":
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None) -> None:
        return None

    def rename(self, name: str) -> None:
        """Give it another name."""

    def note(self, attributes: Mapping[str, Value]) -> None:
        """Add attributes."""

    def count(self, attribute: str) -> None:
        """Add one to an attribute."""

    def fail(self, code: str) -> None:
        """Say that it failed, with the code of a `ServiceError`, or the name of another."""

    def link(self, other: "Span") -> None:
        """Say that a span of another trace belongs to it."""

    def end(self) -> None:
        """End it."""


class Tracer(Protocol):
    """Makes spans; see the functions of this module for what each method does."""

    def span(
        self,
        name: str,
        attributes: Mapping[str, Value],
        kind: Kind,
        parent: Headers | Span | None,
        started_s_ago: float,
        links: Sequence[Span],
    ) -> Span:
        """Begin a span."""

    def current(self) -> Span:
        """Return the current span."""

    def carried(self) -> Headers:
        """Return the current span's headers."""

    def trace_id(self) -> str | None:
        """Return the id of the current trace."""

    def stop(self) -> None:
        """Send what is left."""


_NOT_RECORDED = Span()
_tracer: Tracer | None = None


def require(settings: SharedSettings) -> None:
    """Raise `SetupError` where traces are on, and OpenTelemetry is not installed or its headers are damaged."""
    if not settings.otel_exporter_otlp_endpoint:
        return
    _check_headers({**_from_file(), **os.environ})
    try:
        import jobs.spans  # noqa: F401 - not at the top, since it takes a fifth of a second, and may not be possible
    except ImportError as err:
        raise SetupError(f"OTEL_EXPORTER_OTLP_ENDPOINT is set, and {err.name} is not installed:\n  {_INSTALL}") from err


def start(settings: SharedSettings, service: str) -> None:
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
    from jobs import spans

    use(spans.exporting())


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


def carrying(job: ImageJob) -> ImageJob:
    """Return a job as one that makes its worker go on with the current span."""
    if _tracer is None:
        return job
    headers = _tracer.carried()
    return replace(job, traceparent=headers.get("traceparent", ""), tracestate=headers.get("tracestate", ""))


def trace_id() -> str | None:
    """Return the id of the current trace, by which its spans and log lines are found."""
    return _tracer.trace_id() if _tracer else None


def carried_by(job: ImageJob) -> Headers:
    """Return what a job carries to its worker."""
    return {"traceparent": job.traceparent, "tracestate": job.tracestate}


def trace_ids(jobs: Iterable[ImageJob]) -> list[str]:
    """Return the ids of the traces that jobs belong to: each the second part of its `traceparent`."""
    return [job.traceparent.split("-")[1] for job in jobs if job.traceparent]


def failure_of(err: BaseException) -> str:
    """Return what a span is told of an exception."""
    return err.code if isinstance(err, ServiceError) else type(err).__name__
