"""The metrics of a running service, and the dashboards and alerts that use them."""

import json
import re
import signal
import socket
from pathlib import Path
from typing import Any
from uuid import uuid4

import promql_parser
import pytest
import requests
import yaml

from testing.images import DOG
from tests.conftest import EVENT_TIMEOUT_S, ROOT, MakeService, Service, until
from tests.exposition import Exposition

MONITORING = ROOT / "deploy" / "monitoring"
DASHBOARDS = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))
# Metrics that Prometheus adds itself.
ADDED = {"up"}
# Figures of versions on /status that the dashboard does not show.
ON_THE_PAGE_ALONE = {
    "mlapi_shadow_score_difference",
    "mlapi_shadow_failures",
    "mlapi_shadow_dropped",
}


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture
def metrics_port() -> int:
    """Return a free port, whose successor is free, too, below those that the kernel gives to connections."""
    while True:
        port = 20_000 + uuid4().int % 10_000
        if is_free(port) and is_free(port + 1):
            return port


@pytest.fixture
def service(make_service: MakeService, metrics_port: int) -> Service:
    """Return a service that has done some of everything that is counted."""
    service = make_service(
        INSTANCES="1", API_PROCESSES="2", CACHE_TTL_S="60", METRICS_PORT=str(metrics_port)
    ).wait_until_ready()
    for _ in range(3):
        service.predict(DOG)
    for _ in range(5):
        service.predict(DOG + uuid4().bytes)
        requests.get(f"{service.url}/{uuid4().hex}", timeout=30)
    service.predict(b"no image")
    report = {"report": json.dumps({"filename": "x", "prediction": "Eskimo_dog"})}
    requests.post(f"{service.url}/feedback", data=report, timeout=30)
    return service


def expressions() -> list[str]:
    """Return all queries of dashboards and alerts."""
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    panels = [panel for file in DASHBOARDS for panel in json.loads(file.read_text())["panels"]]
    return [rule["expr"] for group in groups for rule in group["rules"]] + [
        target["expr"] for panel in panels for target in panel["targets"]
    ]


def test_what_is_told_is_as_prometheus_wants_it_and_what_is_looked_at_exists(
    service: Service, metrics_port: int
) -> None:
    api = Exposition.of(f"{service.url}/metrics")
    same = Exposition.of(f"http://127.0.0.1:{metrics_port}/metrics")
    worker = Exposition.of(f"http://127.0.0.1:{metrics_port + 1}/metrics")
    assert api.problems() + worker.problems() == []
    assert same.names == api.names

    # Any of the API's processes reports the metrics of all of them.
    for told in (api, same):
        assert told.value("mlapi_http_requests_total", route="/predict", status="200") == 8
        assert told.value("mlapi_http_requests_total", route="unmatched") == 5
        assert told.value("mlapi_predictions_total", outcome="classified") == 6
        assert told.value("mlapi_predictions_total", outcome="cached") == 2
        assert told.value("mlapi_feedback_total", predicted="Eskimo_dog") == 1
        assert told.value("mlapi_workers") == 1
    assert worker.value("mlapi_worker_jobs_total", outcome="classified") == 6
    assert worker.value("mlapi_worker_batch_images_sum") == 6
    limit = worker.value("mlapi_worker_limit_images_per_second")
    assert limit > 0
    assert until(
        lambda: Exposition.of(f"{service.url}/metrics").value("mlapi_limit_images_per_second") == pytest.approx(limit),
        EVENT_TIMEOUT_S,
    )

    told_of = set(re.findall(r"^# TYPE (mlapi_\w+)", api.text + worker.text, re.MULTILINE))
    documented = set(re.findall(r"^\| `(mlapi_\w+)`", (ROOT / "docs/monitoring.md").read_text(), re.MULTILINE))
    assert documented == told_of

    wanted = {
        name for expression in expressions() for name in re.findall(r"\b(?:mlapi|process)_\w+|\bup\b", expression)
    }
    assert len(wanted) > 20
    # There are no versions to compare here.
    assert wanted - ADDED <= api.names | worker.names | told_of
    of_versions = {name for name in told_of if name.startswith(("mlapi_version_", "mlapi_shadow_"))}
    assert of_versions - wanted == ON_THE_PAGE_ALONE


def test_a_worker_that_is_started_again_shows_its_metrics_at_the_same_port(service: Service, metrics_port: int) -> None:
    service.kill("mlapi worker", signal.SIGKILL)

    def told_anew() -> bool:
        try:
            worker = Exposition.of(f"http://127.0.0.1:{metrics_port + 1}/metrics")
        except requests.ConnectionError:
            return False
        return worker.value("mlapi_worker_jobs_total") == 0

    assert until(told_anew, EVENT_TIMEOUT_S)


def test_a_service_leaves_no_counts_behind(service: Service) -> None:
    assert list(service.folder.glob("mlapi-metrics-*/*.db"))
    service.stop()
    assert not list(service.folder.glob("mlapi-metrics-*"))


@pytest.mark.parametrize("expression", expressions())
def test_every_query_is_one_that_prometheus_can_read(expression: str) -> None:
    promql_parser.parse(expression.replace("$__rate_interval", "1m"))


def test_how_long_predictions_take_is_asked_of_every_route_that_takes_images(service: Service) -> None:
    model = f"{service.url}/v2/models/efficientnet-lite0"
    for path in (f"{model}/infer", f"{model}/versions/1/infer"):
        requests.post(path, DOG, headers={"Inference-Header-Content-Length": "0"}, timeout=60).raise_for_status()
    requests.post(f"{service.url}/v1/predictions", files={"file": DOG}, timeout=60).raise_for_status()
    requests.post(service.url, files={"file": DOG}, timeout=60).raise_for_status()

    text = Exposition.of(f"{service.url}/metrics").text
    posted = set(re.findall(r'^mlapi_http_request_duration_seconds_count\{method="POST",route="([^"]+)"', text, re.M))
    assert len(posted) == 6
    asked = [pattern for each in expressions() for pattern in re.findall(r'method="POST", route=~"([^"]+)"', each)]
    assert len(asked) > 3
    for pattern in asked:
        assert {route for route in posted if re.fullmatch(pattern, route)} == posted - {"/feedback"}


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.name)
def test_a_dashboard_asks_the_prometheus_that_is_provisioned(file: Path) -> None:
    [source] = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    dashboard = json.loads(file.read_text())
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in dashboard["panels"]:
        assert panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {source["uid"]}


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_what_monitors_is_started_when_asked_for_and_may_do_no_more_than_a_service(name: str) -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    monitor, api = services[name], services["api"]
    assert monitor["profiles"] == ["monitoring"]
    assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", monitor["image"])
    for option in ("read_only", "tmpfs", "cap_drop", "security_opt", "logging", "init", "restart"):
        assert monitor[option] == api[option]
    assert {"mem_limit", "cpus", "pids_limit"} <= monitor.keys()
    assert all(port.startswith("127.0.0.1:") for port in monitor.get("ports", []))
    for volume in monitor["volumes"]:
        source, _, options = volume.partition(":")
        assert not source.startswith("./") or ((ROOT / source).exists() and options.endswith(":ro"))


def test_prometheus_asks_where_api_and_workers_answer() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    configured: dict[str, Any] = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    assert {job["job_name"] for job in configured["scrape_configs"]} == {"api", "model"}
    for job in configured["scrape_configs"]:
        [lookup] = job["dns_sd_configs"]
        assert lookup["names"] == [job["job_name"]]
        asked = services[job["job_name"]]
        assert lookup["port"] == asked["environment"]["METRICS_PORT"]
        assert set(asked["networks"]) & set(services["prometheus"]["networks"])


def test_workers_of_another_version_are_found_under_the_name_of_the_others() -> None:
    [beside] = yaml.safe_load((ROOT / "deploy/compose/beside.yml").read_text())["services"].values()
    assert beside["networks"]["queue"]["aliases"] == [beside["extends"]["service"]]


def test_the_alert_on_workers_asks_for_those_of_each_version_that_serves() -> None:
    [group] = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    [expression] = [rule["expr"] for rule in group["rules"] if rule["alert"] == "NoWorker"]
    dead, never_came = expression.split(" or ")
    serves = 'mlapi_version_share_ratio{role="serves"}'
    assert " ".join(dead.split()).endswith(f"(mlapi_version_workers) == 0 and on (name, version) {serves}")
    assert never_came.strip() == f"max(mlapi_redis_up) == 1 unless on () {serves}"


def test_every_alert_says_how_bad_it_is_and_what_it_means() -> None:
    [group] = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    assert len(group["rules"]) > 5
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"].endswith(".")
