"""Trace headers of jobs: they carry a trace from the API to the worker."""

from collections.abc import Iterable
from dataclasses import replace

from jobs.schema import ImageJob
from runtime import tracing
from runtime.tracing.span import Headers


def carrying(job: ImageJob) -> ImageJob:
    """Return a copy of a job with the current span's trace headers, so that its worker continues the trace."""
    headers = tracing.carried()
    if not headers:
        return job
    return replace(job, traceparent=headers.get("traceparent", ""), tracestate=headers.get("tracestate", ""))


def carried_by(job: ImageJob) -> Headers:
    """Return a job's trace headers."""
    return {"traceparent": job.traceparent, "tracestate": job.tracestate}


def trace_ids(jobs: Iterable[ImageJob]) -> list[str]:
    """Return the trace ids of jobs that have one: the second part of `traceparent`."""
    return [job.traceparent.split("-")[1] for job in jobs if job.traceparent]
