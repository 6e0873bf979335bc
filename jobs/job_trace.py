"""The trace that a job takes to its worker."""

from collections.abc import Iterable
from dataclasses import replace

from jobs.schema import ImageJob
from runtime import tracing
from runtime.tracing.span import Headers


def carrying(job: ImageJob) -> ImageJob:
    """Return a job as one that makes its worker go on with the current span."""
    headers = tracing.carried()
    if not headers:
        return job
    return replace(job, traceparent=headers.get("traceparent", ""), tracestate=headers.get("tracestate", ""))


def carried_by(job: ImageJob) -> Headers:
    """Return what a job carries to its worker."""
    return {"traceparent": job.traceparent, "tracestate": job.tracestate}


def trace_ids(jobs: Iterable[ImageJob]) -> list[str]:
    """Return the ids of the traces that jobs belong to: each the second part of its `traceparent`."""
    return [job.traceparent.split("-")[1] for job in jobs if job.traceparent]
