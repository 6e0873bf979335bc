"""The trace of a request through API, queue and worker in one process."""

import asyncio
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode
from PIL import Image

from api.app import create_app
from api.server.gateway import Gateway
from api.settings import ApiSettings
from jobs.queue.memory import MemoryJobQueue
from jobs.schema import ModelInfo, Outcome, Prediction
from jobs.storage.images import FolderImageStore
from model.manifest import ModelManifest
from model.ml_service import Worker, predict
from runtime import tracing
from runtime.tracing.otlp import OpenTelemetryTracer
from testing.queues import until
from testing.rsgi_client import FakeHeaders, FakeProtocol, FakeScope

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
TRACED = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "vendor=1"}
NOT_SAMPLED = {"traceparent": f"00-{TRACE}-{CALLER}-00"}


class FakeClassifier:
    """Classifies every image as a dog."""

    manifest = ModelManifest(
        name="pets",
        version="1",
        height=8,
        width=8,
        resize="squash",
        crop=None,
        interpolation="bilinear",
        channels="RGB",
        mean=(0, 0, 0),
        std=(1, 1, 1),
        layout="NCHW",
        logits=False,
        labels=("dog",),
        folder=Path(),
    )

    def classify(self, pixels: "np.ndarray[Any, Any]") -> list[Outcome]:
        """Return as many dogs as there are pictures."""
        return [Prediction("dog", 0, 0.9) for _ in pixels]


class Setup:
    """An API and a worker that share an in-memory queue, and their finished spans."""

    def __init__(self, folder: Path, exporter: InMemorySpanExporter) -> None:
        self.queue = MemoryJobQueue(max_jobs=10, cache_ttl_s=60, worker_ttl_s=60)
        self.settings = ApiSettings.model_validate(
            {"upload_folder": folder, "feedback_filepath": folder / "feedback", "predict_timeout_s": 60}
        )
        self.app = create_app(self.settings, self.queue, self.queue.results)
        images, classifier = FolderImageStore(folder), FakeClassifier()
        self.worker = Worker(
            self.queue,
            lambda names, _: predict(names, images, classifier, 1_000_000),  # type: ignore[arg-type]  # it is a fake
            model=ModelInfo("m1", "pets", labels=("dog",)),
            jobs_at_once=8,
            batch_size=8,
            service_time_s=0.01,
        )
        self.worker.heartbeat()
        self._exporter = exporter

    @property
    def client(self) -> FlaskClient:
        """A client of the API."""
        return self.app.test_client()

    def predict(self, *images: bytes, headers: dict[str, str] | None = None) -> list[int]:
        """Classify all images in one batch; return the statuses of the responses."""
        post = partial(_post, headers=headers or {})
        with ThreadPoolExecutor() as threads:
            answers = [threads.submit(post, self.client, image) for image in images]
            until(lambda: self.queue.figures().waiting_jobs == len(images) or all(each.done() for each in answers))
            while self.worker.step():
                pass
            return [answer.result(60) for answer in answers]

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """All spans, in the order in which they ended."""
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        """Return the spans with a name."""
        return [span for span in self.spans if span.name == name]

    def only(self, name: str) -> ReadableSpan:
        """Return the only span with a name."""
        [span] = self.named(name)
        return span


def _post(client: FlaskClient, image: bytes, headers: dict[str, str]) -> int:
    return client.post("/predict", data={"file": (io.BytesIO(image), "a.png")}, headers=headers).status_code


def png(red: int) -> bytes:
    """Return a picture that differs by its colour."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (red, 0, 0)).save(file, "PNG")
    return file.getvalue()


def span_id(span: ReadableSpan | Span | None) -> int:
    assert span is not None
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def parent_id(span: ReadableSpan) -> int:
    return span.parent.span_id if span.parent else 0


def trace_of(span: ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}"


def linked(span: ReadableSpan) -> set[int]:
    return {link.context.span_id for link in span.links}


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


@pytest.fixture
def trace_all() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.use(OpenTelemetryTracer(SimpleSpanProcessor(exporter)))
    yield exporter
    tracing.use(None)


@pytest.fixture
def setup(trace_all: InMemorySpanExporter, tmp_path: Path) -> Setup:
    return Setup(tmp_path, trace_all)


def test_one_trace_leads_from_the_callers_request_to_decoding_and_inference(setup: Setup) -> None:
    assert setup.predict(png(1), headers=TRACED) == [200]
    assert {trace_of(span) for span in setup.spans} == {TRACE}
    request, job, batch = (setup.only(name) for name in ("POST /predict", "process job", "batch"))
    assert parent_id(request) == int(CALLER, 16)
    assert [parent_id(setup.only(name)) for name in ("store image", "submit job")] == 2 * [span_id(request)]
    assert parent_id(job) == span_id(setup.only("submit job"))
    assert parent_id(batch) == span_id(job)
    assert [parent_id(setup.only(name)) for name in ("decode", "inference")] == 2 * [span_id(batch)]
    assert [request.kind, setup.only("submit job").kind, job.kind] == [
        SpanKind.SERVER,
        SpanKind.PRODUCER,
        SpanKind.CONSUMER,
    ]
    assert all(span.get_span_context().trace_state.get("vendor") == "1" for span in setup.spans)  # type: ignore[union-attr]


def test_spans_say_where_the_time_went_and_what_was_answered(setup: Setup) -> None:
    setup.predict(png(1))
    request = attributes(setup.only("POST /predict"))
    assert (
        request.items()
        >= {
            "http.request.method": "POST",
            "http.route": "/predict",
            "http.response.status_code": 200,
            "url.path": "/predict",
            "mlapi.jobs.accepted": 1,
        }.items()
    )
    assert request["mlapi.receive_ms"] >= 0
    job, batch = attributes(setup.only("process job")), attributes(setup.only("batch"))
    assert job["mlapi.queue_ms"] >= 0
    assert batch["mlapi.batch_size"] == job["mlapi.batch_size"] == 1
    assert {"mlapi.decode_ms", "mlapi.inference_ms"} <= batch.keys() & job.keys()


def test_a_batch_is_linked_to_each_of_its_jobs_and_they_to_it(setup: Setup) -> None:
    assert setup.predict(png(1), png(2), png(3)) == [200, 200, 200]
    jobs, batch = setup.named("process job"), setup.only("batch")
    assert len({trace_of(job) for job in jobs}) == 3
    assert linked(batch) == {span_id(job) for job in jobs}
    assert parent_id(batch) == span_id(jobs[0])
    assert [linked(job) for job in jobs] == [set(), {span_id(batch)}, {span_id(batch)}]
    assert attributes(batch)["messaging.batch.message_count"] == 3


def test_of_one_who_joins_another_the_requests_span_says_so(setup: Setup) -> None:
    with ThreadPoolExecutor() as threads:
        first = threads.submit(_post, setup.client, png(1), {})
        until(lambda: setup.queue.figures().waiting_jobs)
        second = threads.submit(_post, setup.client, png(1), {})
        until(lambda: len(setup.named("submit job")) == 2)
        setup.worker.step()
        assert first.result(60) == second.result(60) == 200
    counted = [attributes(span) for span in setup.named("POST /predict")]
    assert sum(each.get("mlapi.jobs.joined", 0) for each in counted) == 1
    assert sum(each.get("mlapi.jobs.accepted", 0) for each in counted) == 1
    assert len(setup.named("process job")) == 1


def test_of_an_answer_from_the_cache_the_requests_span_says_so(setup: Setup) -> None:
    setup.predict(png(1))
    setup.predict(png(1))
    assert attributes(setup.named("POST /predict")[1])["mlapi.jobs.cached"] == 1


def test_a_request_of_several_images_counts_them(setup: Setup) -> None:
    data = {"file": [(io.BytesIO(png(red)), f"{red}.png") for red in (1, 2, 1)]}
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(setup.client.post, "/v1/predictions", data=data)
        until(lambda: len(setup.named("submit job")) == 3)
        setup.worker.step()
        assert answer.result(60).status_code == 200
    request = attributes(setup.only("POST /v1/predictions"))
    assert (request["mlapi.jobs.accepted"], request["mlapi.jobs.joined"]) == (2, 1)


def test_what_the_caller_has_not_sampled_is_not_recorded(setup: Setup) -> None:
    assert setup.predict(png(1), headers=NOT_SAMPLED) == [200]
    assert setup.spans == ()


def test_of_a_batch_the_jobs_that_are_sampled_are_recorded_and_have_all_of_it(setup: Setup) -> None:
    with ThreadPoolExecutor() as threads:
        answers = []
        for number, headers in enumerate((NOT_SAMPLED, TRACED), 1):
            answers.append(threads.submit(_post, setup.client, png(number), headers))
            until(partial(lambda count: setup.queue.figures().waiting_jobs == count, number))
        setup.worker.step()
        assert [answer.result(60) for answer in answers] == [200, 200]
    batch = setup.only("batch")
    assert parent_id(batch) == span_id(setup.only("process job"))
    assert linked(batch) == {span_id(setup.only("process job"))}
    assert attributes(batch)["messaging.batch.message_count"] == 2
    assert setup.named("decode")


def test_the_span_of_a_job_that_fails_says_why(setup: Setup) -> None:
    before, mark, _ = png(1).partition(b"IDAT")
    damaged = before + mark + bytes(len(png(1)) - len(before + mark))
    [status] = setup.predict(damaged)
    failed = [span for span in setup.spans if span.status.status_code is StatusCode.ERROR]
    assert status == 400
    assert [(span.name, attributes(span)["error.type"]) for span in failed] == [("process job", "not-an-image")]


def test_a_request_that_is_refused_says_why(setup: Setup) -> None:
    setup.worker.retire()
    assert setup.predict(png(1)) == [503]
    for name in ("POST /predict", "submit job"):
        assert attributes(setup.only(name))["error.type"] == "no-worker"
        assert setup.only(name).status.status_code is StatusCode.ERROR


def test_paths_that_are_no_route_make_no_names_and_health_checks_no_spans(setup: Setup) -> None:
    setup.client.get("/livez")
    setup.client.get("/somewhere")
    assert [span.name for span in setup.spans] == ["GET"]


@pytest.mark.parametrize(("path", "count"), [("/predict", 1), ("/v1/predictions", 3)])
def test_a_trace_begins_when_the_request_does_and_is_whole_where_an_event_loop_answers(
    setup: Setup, path: str, count: int
) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    body = b"".join(head + png(number) + b"\r\n" for number in range(count)) + b"--b--\r\n"
    form = (("content-type", "multipart/form-data; boundary=b"), ("content-length", str(len(body))))
    headers = FakeHeaders(("host", "localhost"), *form, *TRACED.items())

    async def ask() -> int:
        gateway = Gateway(setup.app, setup.settings, setup.queue)
        gateway.__rsgi_init__(asyncio.get_running_loop())
        protocol = FakeProtocol([body[:40], body[40:]])
        scope = FakeScope("POST", path, headers)
        answered = asyncio.ensure_future(gateway.__rsgi__(scope, protocol))
        await asyncio.get_running_loop().run_in_executor(None, lambda: until(setup.worker.step))
        await asyncio.wait_for(answered, 60)
        assert protocol.answer
        return protocol.answer.status

    assert asyncio.run(ask()) == 200
    assert {trace_of(span) for span in setup.spans} == {TRACE}
    request, submitted = setup.only(f"POST {path}"), setup.named("submit job")
    assert {parent_id(span) for span in (*setup.named("store image"), *submitted)} == {span_id(request)}
    assert {parent_id(span) for span in setup.named("process job")} == {span_id(span) for span in submitted}
    assert len(submitted) == attributes(request)["mlapi.jobs.accepted"] == count
    began = [span.start_time or 0 for span in (request, setup.named("store image")[0], submitted[0])]
    assert began == sorted(began)
