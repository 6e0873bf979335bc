"""Spans and tracers as the traced code sees them, independent of OpenTelemetry."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Literal, Protocol

from runtime.errors import ServiceError

Kind = Literal["internal", "server", "producer", "consumer"]
Value = str | int | float | bool
# The headers that cross from one process to the next: the W3C's `traceparent` and, if there is one, `tracestate`.
Headers = Mapping[str, str]


class Span:
    """A part of a trace; this one is not recorded. As a context manager it becomes the current span, then ends."""

    recorded = False

    def __enter__(self) -> "Span":
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None) -> None:
        return None

    def rename(self, name: str) -> None:
        """Rename the span."""

    def note(self, attributes: Mapping[str, Value]) -> None:
        """Add attributes."""

    def count(self, attribute: str) -> None:
        """Add one to an attribute."""

    def fail(self, code: str) -> None:
        """Mark the span as failed, with the code of a `ServiceError`, or the name of another exception."""

    def link(self, other: "Span") -> None:
        """Link a span of another trace."""

    def end(self) -> None:
        """End the span."""


class Tracer(Protocol):
    """Makes spans; the functions of `runtime.tracing` describe the methods."""

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
        """Send the remaining spans."""


def failure_of(err: BaseException) -> str:
    """Return an exception's name for a span."""
    return err.code if isinstance(err, ServiceError) else type(err).__name__
