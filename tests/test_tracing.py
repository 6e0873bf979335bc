"""The traces of a running service, as a collector receives them."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from testing.images import DOG
from tests.conftest import ROOT, MakeService, Service

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector(ThreadingHTTPServer):
    """Receives spans by OTLP over HTTP, and records which service sent each."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiver)
        self.spans: list[tuple[str, Span]] = []

    @property
    def url(self) -> str:
        """The collector's URL."""
        return f"http://127.0.0.1:{self.server_port}"

    def receive(self, data: bytes) -> None:
        """Record spans of a service."""
        for sent in ExportTraceServiceRequest.FromString(data).resource_spans:
            [name] = [each.value.string_value for each in sent.resource.attributes if each.key == "service.name"]
            self.spans += [(name, span) for scope in sent.scope_spans for span in scope.spans]

    def of_trace(self, trace_id: str) -> dict[str, tuple[str, Span]]:
        """Return a trace's spans by their names, which are unique."""
        return {span.name: (name, span) for name, span in self.spans if span.trace_id.hex() == trace_id}


class _Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        self.server.receive(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.serve_forever, args=[0.05])
    thread.start()
    yield collector
    collector.shutdown()
    thread.join()
    collector.server_close()


def predict(service: Service, **headers: str) -> requests.Response:
    files = {"file": ("dog.jpg", DOG + uuid4().bytes)}
    return requests.post(f"{service.url}/predict", files=files, headers=headers, timeout=60)


def test_a_trace_goes_through_all_processes_and_is_sent_when_they_stop(
    make_service: MakeService, collector: Collector
) -> None:
    # So that nothing is left to send.
    patient = {"OTEL_BSP_SCHEDULE_DELAY": "3600000", "OTEL_TRACES_SAMPLER": "always_on", "LOG_FORMAT": "json"}
    service = make_service(
        INSTANCES="1", API_PROCESSES="2", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **patient
    ).wait_until_ready()
    assert predict(service, traceparent=f"00-{TRACE}-{CALLER}-01").status_code == 200
    others = [predict(service).status_code for _ in range(8)]
    assert collector.spans == []
    service.stop()
    assert others == [200] * 8
    assert len([span for _, span in collector.spans if span.name == "POST /predict"]) == 9
    spans = collector.of_trace(TRACE)
    parents = {
        "POST /predict": (CALLER, "mlapi-api"),
        "store image": ("POST /predict", "mlapi-api"),
        "submit job": ("POST /predict", "mlapi-api"),
        "process job": ("submit job", "mlapi-worker"),
        "batch": ("process job", "mlapi-worker"),
        "decode": ("batch", "mlapi-worker"),
        "inference": ("batch", "mlapi-worker"),
    }
    assert spans.keys() == parents.keys()
    for name, (parent, service_name) in parents.items():
        found_in, span = spans[name]
        assert found_in == service_name
        assert span.parent_span_id.hex() == (spans[parent][1].span_id.hex() if parent in spans else parent)
    assert [link.span_id for link in spans["batch"][1].links] == [spans["process job"][1].span_id]
    assert service.log.count(TRACE) == 2  # a line of the API, one of the worker


def test_a_collector_that_is_away_disturbs_nobody(make_service: MakeService, collector: Collector) -> None:
    url = collector.url
    collector.server_close()
    settings = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_TRACES_SAMPLER": "always_on"}
    service = make_service(INSTANCES="1", OTEL_EXPORTER_OTLP_ENDPOINT=url, **settings).wait_until_ready()
    assert [predict(service).status_code for _ in range(5)] == [200] * 5
    assert service.stop() == 0


def test_the_sampler_says_which_traces_are_sent(make_service: MakeService, collector: Collector) -> None:
    sampled = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.0"}
    service = make_service(INSTANCES="1", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **sampled).wait_until_ready()
    assert predict(service).status_code == 200
    assert predict(service, traceparent=f"00-{TRACE}-{CALLER}-01").status_code == 200
    service.stop()
    assert {span.trace_id.hex() for _, span in collector.spans} == {TRACE}


def test_without_opentelemetry_the_api_says_so_once_and_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "opentelemetry.py").write_text("raise ModuleNotFoundError(name='opentelemetry')")
    done = subprocess.run(
        [sys.executable, "-m", "mlapi", "api"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.count("opentelemetry is not installed") == 1
    assert "Traceback" not in done.stderr
