"""Traces by OpenTelemetry's SDK, sent by OTLP over HTTP; imported only where they are on.

The SDK reads its own settings: which traces are recorded (OTEL_TRACES_SAMPLER, whose default is ours), where they are
sent and with which headers (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_HEADERS), and how many at once
(OTEL_BSP_...).
"""

import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from runtime.tracing.span import Headers, Kind, Span, Value, failure_of

_KINDS: Mapping[Kind, SpanKind] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
# A process that stops gives what it still has to send this long.
_STOP_S = 3.0
# The W3C asks for so much to be passed on; more would only fill the queue.
_MAX_STATE = 512


class RecordedSpan(Span):
    """A span of OpenTelemetry."""

    def __init__(self, span: trace.Span) -> None:
        self.span = span
        self.recorded = span.is_recording()

    @property
    def is_left_out(self) -> bool:
        """Whether it is one, and the sampler has decided not to have it recorded."""
        return not self.recorded and self.span.get_span_context().is_valid

    def __enter__(self) -> Span:
        self._before = context.attach(trace.set_span_in_context(self.span))
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None) -> None:
        context.detach(self._before)
        if err is not None:
            self.fail(failure_of(err))
        self.end()

    def rename(self, name: str) -> None:
        """Give it another name."""
        self.span.update_name(name)

    def note(self, attributes: Mapping[str, Value]) -> None:
        """Add attributes."""
        self.span.set_attributes(attributes)

    def count(self, attribute: str) -> None:
        """Add one to an attribute."""
        if isinstance(self.span, ReadableSpan):
            before = (self.span.attributes or {}).get(attribute, 0)
            self.note({attribute: 1 + before if isinstance(before, int) else 1})

    def fail(self, code: str) -> None:
        """Say that it failed."""
        self.span.set_attribute("error.type", code)
        self.span.set_status(StatusCode.ERROR)

    def link(self, other: Span) -> None:
        """Say that a span of another trace belongs to it."""
        if isinstance(other, RecordedSpan):
            self.span.add_link(other.span.get_span_context())

    def end(self) -> None:
        """End it."""
        self.span.end()


class OpenTelemetryTracer:
    """The `Tracer` that hands each span that has ended to a processor."""

    def __init__(self, processor: SpanProcessor) -> None:
        # It would also flush at exit, and then for as long as that takes.
        self._provider = TracerProvider(shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("mlapi")
        self._propagator = TraceContextTextMapPropagator()

    def span(
        self,
        name: str,
        attributes: Mapping[str, Value],
        kind: Kind,
        parent: Headers | Span | None,
        started_s_ago: float,
        links: Sequence[Span],
    ) -> Span:
        """Begin a span; what is a part of one that nobody records is no other one."""
        whole = self.current() if parent is None else parent
        if isinstance(whole, RecordedSpan) and whole.is_left_out:
            return RecordedSpan(whole.span)
        return RecordedSpan(
            self._tracer.start_span(
                name,
                self._context(parent),
                _KINDS[kind],
                attributes,
                [Link(link.span.get_span_context()) for link in links if isinstance(link, RecordedSpan)],
                time.time_ns() - int(1e9 * started_s_ago),
            )
        )

    def _context(self, parent: Headers | Span | None) -> context.Context | None:
        """Return what a span begins in, None for where it is made."""
        if parent is None:
            return None
        if isinstance(parent, RecordedSpan):
            return trace.set_span_in_context(parent.span)
        if isinstance(parent, Span):
            return context.Context()
        known = {name: value for name, value in parent.items() if name == "traceparent" or len(value) <= _MAX_STATE}
        return self._propagator.extract(known, context.Context())

    def current(self) -> Span:
        """Return the current span."""
        return RecordedSpan(trace.get_current_span())

    def carried(self) -> Headers:
        """Return the current span's headers."""
        headers: dict[str, str] = {}
        self._propagator.inject(headers)
        return headers

    def trace_id(self) -> str | None:
        """Return the id of the current trace."""
        current = trace.get_current_span().get_span_context()
        return trace.format_trace_id(current.trace_id) if current.is_valid else None

    def stop(self) -> None:
        """Send what is left: in a thread, since a collector that is away would have the process wait for long."""
        flush = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        flush.start()
        flush.join(_STOP_S)


def exporting() -> OpenTelemetryTracer:
    """Return a tracer that sends its spans in batches, in a thread of its own."""
    return OpenTelemetryTracer(BatchSpanProcessor(OTLPSpanExporter()))
