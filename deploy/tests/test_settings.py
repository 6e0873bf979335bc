"""The manifests agree with the services: their settings, images, and what Compose gives the same containers."""

import re
from functools import cache
from typing import Any

import pytest
import yaml

from api.access.access import OPEN_ENDPOINTS
from api.server.main import _STOP_SPARE_S
from api.settings import ApiSettings
from deploy.tests.manifests import EVERY_WORKLOAD, OVERLAYS, Workload, of_kind, overlay, workloads
from jobs.settings import SharedSettings
from model.settings import ModelSettings
from tests.conftest import ROOT

SETTINGS: dict[str, type[SharedSettings]] = {"api": ApiSettings, "model": ModelSettings}
DOCKERFILES = {"api": "api/Dockerfile", "model": "model/Dockerfile", "redis": "deploy/compose/redis/Dockerfile"}


@cache
def compose(service: str) -> dict[str, Any]:
    """Return what Compose runs of a service, with nothing set."""
    text = (ROOT / "docker-compose.yml").read_text()
    text = re.sub(r"\$\{\w+(?::[-+]((?:[^{}]|\{[^}]*\})*))?\}", lambda found: found[1] or "", text)
    return dict(yaml.safe_load(text)["services"][service])


def dockerfile(service: str) -> str:
    """Return how a service's image is made."""
    return (ROOT / DOCKERFILES[service]).read_text()


def settings(overlay_name: str, service: str) -> dict[str, str]:
    """Return a service's settings by the config maps of an overlay."""
    return workloads(overlay(overlay_name))[service].settings(overlay(overlay_name))


def values(overlay_name: str, service: str) -> SharedSettings:
    """Return a service's settings as it reads them, but for the file of the password, which is not on this machine."""
    given = {name.lower(): value for name, value in settings(overlay_name, service).items()}
    del given["redis_password_file"]
    return SETTINGS[service].model_validate(given)


@pytest.mark.parametrize("service", SETTINGS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_every_setting_is_one_of_its_service_and_has_a_value_that_it_takes(name: str, service: str) -> None:
    given = settings(name, service)
    assert {key.lower() for key in given} <= set(SETTINGS[service].model_fields)
    assert all(key.isupper() for key in given)
    assert given["REDIS_URL"] == values(name, service).redis_url


@pytest.mark.parametrize("service", SETTINGS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_what_belongs_to_the_image_is_not_set(name: str, service: str) -> None:
    fixed = set(re.findall(r"\b([A-Z_]+)=/src/|\b(HOST|PORT)=", dockerfile(service)))
    assert fixed
    assert not {name for names in fixed for name in names} & set(settings(name, service))


@pytest.mark.parametrize("service", SETTINGS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_files_of_settings_are_in_what_is_mounted(name: str, service: str) -> None:
    mounted = {mount["mountPath"] for mount in workloads(overlay(name))[service].container["volumeMounts"]}
    files = {value for key, value in settings(name, service).items() if key.endswith("_FILE")}
    assert files
    assert {file.rpartition("/")[0] for file in files} <= mounted


@pytest.mark.parametrize("workload", EVERY_WORKLOAD)
def test_an_image_is_of_a_dockerfile_and_runs_as_its_user(workload: Workload) -> None:
    assert workload.container["image"] == f"mlapi-{workload.name}"
    assert not {"command", "args"} & set(workload.container)
    user = re.search(r"^ARG UID=(\d+)$", dockerfile(workload.service), re.MULTILINE)
    expected = int(user[1] if user else compose("api")["group_add"][0])  # Redis's own, as Compose knows it
    context = workload.pod["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == (expected, expected)


@pytest.mark.parametrize("workload", EVERY_WORKLOAD)
def test_volumes_are_where_compose_has_them_and_as_writable(workload: Workload) -> None:
    def writable(volume: str | dict[str, Any]) -> tuple[str, bool]:
        if isinstance(volume, dict):
            return volume["target"], not volume["read_only"]
        _, target, *options = volume.split(":")
        return target, "ro" not in options

    service = compose(workload.service)
    expected = dict([*map(writable, service["volumes"]), *((target, True) for target in service["tmpfs"])])
    mounts = workload.container["volumeMounts"]
    mounted = {mount["mountPath"]: not mount.get("readOnly", False) for mount in mounts}
    # Here, nobody makes the password or a key but who makes the secret.
    secret = dict.fromkeys({"/run/redis-password", "/src/keys"} & set(expected), False)
    assert mounted == {**expected, **secret}


@pytest.mark.parametrize("workload", EVERY_WORKLOAD)
def test_memory_and_time_to_stop_are_at_least_those_of_compose(workload: Workload) -> None:
    service = compose(workload.service)
    assert workload.container["resources"]["limits"]["memory"].lower() == f"{service['mem_limit']}i"
    assert workload.pod["terminationGracePeriodSeconds"] >= int(service.get("stop_grace_period", "10s")[:-1])


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_worker_is_asked_what_compose_asks_it(name: str) -> None:
    made = workloads(overlay(name))
    _, *command = compose("model")["healthcheck"]["test"]
    model = made["model"].container
    assert model["startupProbe"]["exec"]["command"] == model["readinessProbe"]["exec"]["command"] == command
    assert "livenessProbe" not in model  # while Redis is away, no worker is to be killed


def test_redis_is_asked_what_compose_asks_it() -> None:
    _, command = compose("redis")["healthcheck"]["test"]
    container = workloads(overlay("small"))["redis"].container
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["exec"]["command"] == ["sh", "-c", command.replace("$$", "$")]


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_api_is_asked_at_its_port_where_it_wants_no_key(name: str) -> None:
    container = workloads(overlay(name))["api"].container
    [port] = container["ports"]
    assert re.search(rf"^EXPOSE {port['containerPort']}$", dockerfile("api"), re.MULTILINE)
    paths = {"startupProbe": "/livez", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
    for probe, path in paths.items():
        assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}
        assert f"views.{path[1:]}" in OPEN_ENDPOINTS


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_api_that_is_to_stop_has_the_time_that_its_settings_give_it(name: str) -> None:
    api, given = workloads(overlay(name))["api"], values(name, "api")
    assert isinstance(given, ApiSettings)
    # Nobody asks at /readyz: an endpoint that is to go leaves its service at once, and every proxy soon.
    assert given.drain_s >= 10
    assert given.stop_timeout_s >= given.predict_timeout_s
    assert api.pod["terminationGracePeriodSeconds"] > given.drain_s + given.stop_timeout_s + _STOP_SPARE_S


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_worker_has_as_many_processors_as_threads(name: str) -> None:
    given = values(name, "model")
    assert isinstance(given, ModelSettings)
    resources = workloads(overlay(name))["model"].container["resources"]
    assert resources["requests"]["cpu"] == resources["limits"]["cpu"] == str(given.threads)


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_ingress_lets_through_what_the_api_takes_and_waits_longer_than_it(name: str) -> None:
    given, [ingress] = values(name, "api"), of_kind(overlay(name), "Ingress").values()
    assert isinstance(given, ApiSettings)
    notes = ingress["metadata"]["annotations"]
    for prefix in ("nginx.org/client-max", "nginx.ingress.kubernetes.io/proxy"):
        megabytes = int(notes[f"{prefix}-body-size"].removesuffix("m"))
        assert megabytes * 2**20 > max(given.max_request_bytes, given.max_upload_bytes)
    for prefix in ("nginx.org", "nginx.ingress.kubernetes.io"):
        assert int(notes[f"{prefix}/proxy-read-timeout"].removesuffix("s")) > given.predict_timeout_s


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_service_is_asked_by_the_name_of_the_ingress_alone_and_with_keys(name: str) -> None:
    given, [ingress] = values(name, "api"), of_kind(overlay(name), "Ingress").values()
    assert isinstance(given, ApiSettings)
    [rule], [tls] = ingress["spec"]["rules"], ingress["spec"]["tls"]
    assert tls["hosts"] == [rule["host"]]
    assert given.trusted_hosts
    assert settings(name, "api")["TRUSTED_HOSTS"] == rule["host"]
    assert given.trusted_proxies == 1
    assert given.api_keys_file


@pytest.mark.parametrize("name", OVERLAYS)
def test_there_is_room_for_all_uploads_that_may_be_kept(name: str) -> None:
    given, claims = values(name, "api"), of_kind(overlay(name), "PersistentVolumeClaim")
    assert isinstance(given, ApiSettings)
    room = claims["uploads"]["spec"]["resources"]["requests"]["storage"]
    assert int(room.removesuffix("Gi")) * 2**30 > given.upload_max_bytes + given.max_queued_bytes
