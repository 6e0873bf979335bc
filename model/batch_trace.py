"""Spans of a batch and of its jobs, which continue their requests' traces, if traces are on.

A batch belongs to several traces. Its own span is in that of its first job, and links to all; the other jobs' spans
link to it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from jobs import job_trace
from jobs.queue.interface import Delivery
from jobs.schema import JobFailure, Outcome, Prediction
from runtime import tracing
from runtime.tracing.span import Span, Value


class BatchTrace:
    """The span of a batch, and those of its jobs in their order."""

    def __init__(self, span: Span, jobs: Sequence[Span]) -> None:
        self._span = span
        self._jobs = jobs

    def finished(self, outcomes: Sequence[Outcome]) -> None:
        """Record the jobs' outcomes and timings."""
        for span, outcome in zip(self._jobs, outcomes, strict=False):  # no spans if traces are off
            if isinstance(outcome, JobFailure):
                span.fail(outcome.code)
            else:
                span.note(_timings(outcome))
        if predicted := next((outcome for outcome in outcomes if isinstance(outcome, Prediction)), None):
            self._span.note(_timings(predicted))


_NOT_TRACED = BatchTrace(Span(), ())


@contextmanager
def traced(batch: Sequence[Delivery]) -> Iterator[BatchTrace]:
    """Trace the processing of a batch; spans made meanwhile are its children."""
    if not tracing.is_on():
        yield _NOT_TRACED
        return
    jobs = [_job_span(delivery) for delivery in batch]
    recorded = [span for span in jobs if span.recorded] or jobs
    size: Value = len(batch)
    try:
        with tracing.span("batch", {"messaging.batch.message_count": size}, parent=recorded[0], links=recorded) as span:
            for other in recorded[1:]:
                other.link(span)
            yield BatchTrace(span, jobs)
    finally:
        for job in jobs:
            job.end()


def _job_span(delivery: Delivery) -> Span:
    attributes: dict[str, Value] = {
        "messaging.message.id": delivery.job.id,
        "mlapi.lane": delivery.job.lane,
        "mlapi.queue_ms": delivery.waited_ms,
        "mlapi.deaths": delivery.deaths,
    }
    return tracing.span("process job", attributes, kind="consumer", parent=job_trace.carried_by(delivery.job))


def _timings(prediction: Prediction) -> dict[str, Value]:
    timings = prediction.timings
    if timings is None:
        return {}
    return {
        "mlapi.decode_ms": timings.decode_ms,
        "mlapi.inference_ms": timings.inference_ms,
        "mlapi.batch_size": timings.batch_size,
    }
