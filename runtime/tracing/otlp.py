"""Tracing with OpenTelemetry's SDK, sent by OTLP over HTTP; imported only if traces are on.

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
# The time that a stopping process takes to send its last spans.
_STOP_S = 3.0
# The W3C requires that this many characters be passed on; more would only fill the queue.
_MAX_STATE = 512


class RecordedSpan(Span):
    """A span of OpenTelemetry."""

    def __init__(self, span: trace.Span) -> None:
        self.span = span
        self.recorded = span.is_recording()

    @property
    def is_left_out(self) -> bool:
        """Whether this is a real span that the sampler has decided not to record."""
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
        """Rename the span."""
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
        """Mark the span as failed."""
        self.span.set_attribute("error.type", code)
        self.span.set_status(StatusCode.ERROR)

    def link(self, other: Span) -> None:
        """Link a span of another trace."""
        if isinstance(other, RecordedSpan):
            self.span.add_link(other.span.get_span_context())

    def end(self) -> None:
        """End the span."""
        self.span.end()


class OpenTelemetryTracer:
    """A `Tracer` that passes ended spans to a processor."""

    def __init__(self, processor: SpanProcessor) -> None:
        # Otherwise it would also flush at exit, with no time limit.
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
        """Begin a span; within a span that is not recorded, no new one is made."""
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
        """Return the context for a new span, None for the present one."""
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
        """Send the remaining spans, in a thread, since a collector that is away would block the process for long."""
        flush = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        flush.start()
        flush.join(_STOP_S)


def exporting() -> OpenTelemetryTracer:
    """Return a tracer that sends its spans in batches, in its own thread."""
    return OpenTelemetryTracer(BatchSpanProcessor(OTLPSpanExporter()))
