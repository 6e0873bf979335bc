"""Spans with traces on and off, and how traces are turned on."""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from jobs import job_trace
from jobs.schema import ImageJob
from jobs.settings import SettingsError, SharedSettings
from runtime import logs, tracing
from runtime.errors import NoWorker, SetupError
from runtime.tracing.otlp import OpenTelemetryTracer
from runtime.tracing.span import Headers

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{CALLER}-01"
ENDPOINT = "http://127.0.0.1:4318"


@pytest.fixture(autouse=True)
def off_afterwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    yield
    tracing.use(None)
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        del os.environ[name]


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """Trace into memory."""
    exporter = InMemorySpanExporter()
    tracing.use(OpenTelemetryTracer(SimpleSpanProcessor(exporter)))
    return exporter


def carried(parent: Headers) -> ImageJob:
    """Return a job that was submitted in a span of a caller's trace."""
    with tracing.span("request", parent=parent):
        return job_trace.carrying(ImageJob.create("dog.jpg", 1))


def test_where_traces_are_off_spans_do_nothing_and_jobs_stay_as_they_are() -> None:
    tracing.start(SharedSettings(), "a-service")
    job = ImageJob.create("dog.jpg", 1)
    with tracing.span("request", {"answer": 42}, parent={"traceparent": PARENT}) as span:
        span.note({"a": 1})
        assert job_trace.carrying(job) is job
        assert tracing.trace_id() is None
    assert not tracing.is_on()
    tracing.stop()


@pytest.mark.parametrize("start", [tracing.require, partial(tracing.start, service="a-service")])
def test_without_opentelemetry_whoever_turns_traces_on_is_told_what_to_install(
    start: Callable[[SharedSettings], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "runtime.tracing.otlp")
    monkeypatch.delattr("runtime.tracing.otlp")
    with pytest.raises(SetupError, match=r"opentelemetry is not installed:\n .* -r deploy/requirements/tracing\.txt"):
        start(SharedSettings(otel_exporter_otlp_endpoint=ENDPOINT))


def test_an_address_that_is_none_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_ENDPOINT=collector:4317"):
        SharedSettings.from_env()


@pytest.mark.parametrize(
    "url",
    ["http://me:secret@collector:4318", "http://me:secret/x@collector", "https://collector?key=secret", "me:secret@x"],
)
def test_an_address_with_a_password_is_refused_without_it(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    with pytest.raises(
        SettingsError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT=\.\.\.: .*OTEL_EXPORTER_OTLP_HEADERS"
    ) as refused:
        SharedSettings.from_env()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"])
@pytest.mark.parametrize(
    "headers", ["authorization: secret", "secret", "a=1,secret", "=secret", 'a="secret"', "a=secret;b", "a=secret%0A"]
)
def test_headers_that_are_damaged_are_refused_without_the_key_in_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, headers: str
) -> None:
    monkeypatch.setenv(name, headers)
    with pytest.raises(SetupError, match=rf"{name}=\.\.\.: ") as refused:
        tracing.require(SharedSettings(otel_exporter_otlp_endpoint=ENDPOINT))
    assert "secret" not in str(refused.value) + caplog.text


def test_headers_that_are_damaged_in_the_file_of_settings_are_refused_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    file.write_text(f"OTEL_EXPORTER_OTLP_ENDPOINT={ENDPOINT}\nOTEL_EXPORTER_OTLP_HEADERS=secret\n")
    monkeypatch.setenv("ENV_FILE", str(file))
    with pytest.raises(SetupError, match=r"OTEL_EXPORTER_OTLP_HEADERS=\.\.\.: "):
        tracing.start(SharedSettings.from_env(), "a-service")


@pytest.mark.parametrize("headers", ["api-key=a%20b", "authorization=Bearer abc=, x-team = 7 ,"])
def test_headers_reach_the_collector(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, headers: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", headers)
    tracing.start(SharedSettings(otel_exporter_otlp_endpoint=ENDPOINT), "a-service")
    tracing.stop()
    assert not caplog.text


def test_what_opentelemetry_reads_itself_may_stand_in_the_file_of_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    file.write_text(f"OTEL_EXPORTER_OTLP_ENDPOINT={ENDPOINT}\nOTEL_TRACES_SAMPLER=always_off\nOTEL_BSP_X=\nOTHER=1\n")
    monkeypatch.setenv("ENV_FILE", str(file))
    tracing.start(SharedSettings.from_env(), "a-service")
    with tracing.span("request") as span:
        assert not span.recorded
    expected = {"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, "OTEL_TRACES_SAMPLER": "always_off"}
    assert {name: os.environ.get(name) for name in expected} == expected
    assert os.environ["OTEL_SERVICE_NAME"] == "a-service"
    assert not {"OTEL_BSP_X", "OTHER"} & os.environ.keys()
    tracing.stop()


def test_the_environment_goes_before_the_file_and_before_our_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    file.write_text(f"OTEL_EXPORTER_OTLP_ENDPOINT={ENDPOINT}\nOTEL_TRACES_SAMPLER=always_off\n")
    monkeypatch.setenv("ENV_FILE", str(file))
    os.environ |= {"OTEL_TRACES_SAMPLER": "always_on", "OTEL_SERVICE_NAME": "pictures"}
    tracing.start(SharedSettings.from_env(), "a-service")
    assert tracing.span("request").recorded  # never ended, so nothing is sent
    assert os.environ["OTEL_SERVICE_NAME"] == "pictures"
    tracing.stop()


@pytest.mark.parametrize(
    ("sampler", "fewest", "most"),
    [
        ({}, 20, 180),  # of 2000; a twentieth is 100, give or take 10
        ({"OTEL_TRACES_SAMPLER": ""}, 20, 180),
        ({"OTEL_TRACES_SAMPLER_ARG": "0.5"}, 800, 1200),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}, 2000, 2000),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, 0, 0),
    ],
)
def test_a_twentieth_is_recorded_unless_a_sampler_is_named(sampler: dict[str, str], fewest: int, most: int) -> None:
    os.environ |= {"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, **sampler}
    tracing.start(SharedSettings.from_env(), "a-service")
    recorded = sum(tracing.span("request").recorded for _ in range(2000))  # never ended, so nothing is sent
    assert fewest <= recorded <= most
    tracing.stop()


def test_by_default_whatever_the_caller_records_is_recorded() -> None:
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = ENDPOINT
    tracing.start(SharedSettings.from_env(), "a-service")
    assert all(tracing.span("request", parent={"traceparent": PARENT}).recorded for _ in range(100))
    tracing.stop()


@pytest.mark.usefixtures("exporter")
def test_a_job_goes_on_with_the_trace_of_the_caller() -> None:
    job = carried({"traceparent": PARENT, "tracestate": "vendor=1"})
    assert job.traceparent.startswith(f"00-{TRACE}-")
    assert CALLER not in job.traceparent
    assert job.tracestate == "vendor=1"
    assert job_trace.trace_ids([job, ImageJob.create("cat.jpg", 1)]) == [TRACE]


@pytest.mark.usefixtures("exporter")
def test_that_a_caller_has_not_sampled_its_trace_is_passed_on() -> None:
    traceparent = carried({"traceparent": f"{PARENT[:-1]}0"}).traceparent
    assert traceparent.startswith(f"00-{TRACE}-")
    assert traceparent.endswith("-00")


@pytest.mark.usefixtures("exporter")
@pytest.mark.parametrize("damaged", ["", "x", PARENT[1:], f"00-{'0' * 32}-{CALLER}-01", f"{PARENT}\n{PARENT}"])
def test_of_what_is_no_traceparent_nothing_is_taken(damaged: str) -> None:
    assert TRACE not in carried({"traceparent": damaged}).traceparent


@pytest.mark.usefixtures("exporter")
def test_a_tracestate_longer_than_others_pass_on_is_dropped() -> None:
    job = carried({"traceparent": PARENT, "tracestate": ",".join(f"k{number}={'v' * 200}" for number in range(3))})
    assert job.traceparent.startswith(f"00-{TRACE}-")
    assert job.tracestate == ""


def test_what_is_raised_in_a_span_is_its_failure(exporter: InMemorySpanExporter) -> None:
    for error in (NoWorker, ZeroDivisionError):
        with pytest.raises(error), tracing.span("request"):
            raise error
    assert [dict(span.attributes or {})["error.type"] for span in exporter.get_finished_spans()] == [
        "no-worker",
        "ZeroDivisionError",
    ]


@pytest.mark.usefixtures("exporter")
def test_log_lines_have_the_id_of_the_trace_that_they_belong_to(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure("INFO", "json")
    with tracing.span("request", parent={"traceparent": PARENT}):
        root.info("inside")
    root.info("outside")
    root.handlers[:] = handlers
    root.setLevel(level)
    inside, outside = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert inside["trace_id"] == TRACE
    assert "trace_id" not in outside
