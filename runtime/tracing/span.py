"""The parts of a trace, as the code that is traced sees them, whoever records them."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Literal, Protocol

from runtime.errors import ServiceError

Kind = Literal["internal", "server", "producer", "consumer"]
Value = str | int | float | bool
# What crosses from one process to the next: the W3C's headers `traceparent` and, where there is one, `tracestate`.
Headers = Mapping[str, str]


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


def failure_of(err: BaseException) -> str:
    """Return what a span is told of an exception."""
    return err.code if isinstance(err, ServiceError) else type(err).__name__
