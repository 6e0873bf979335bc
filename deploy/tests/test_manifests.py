"""The manifests for Kubernetes: they fit its schemas, name what is there, and give nobody more than needed."""

import copy
import json
from collections.abc import Iterator

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
from pydantic import ValidationError

from deploy.tests import keda
from deploy.tests.manifests import EVERY_WORKLOAD, OVERLAYS, Resource, Workload, of_kind, overlay, selects, workloads

# The oldest that its makers still mend, some months on, and the newest whose schemas are at hand.
VERSIONS = ("1.33", kubernetes_validate.latest_version())
# Most are the same in every overlay.
DIFFERENT = {json.dumps(resource): resource for name in OVERLAYS for resource in overlay(name)}.values()
EVERY_RESOURCE = [pytest.param(it, id=f"{it['kind']}-{it['metadata']['name']}") for it in DIFFERENT]


def check(resource: Resource) -> None:
    """Raise where a resource does not fit its schema, or has a field that is not in it."""
    if resource["kind"] in keda.KINDS:
        keda.KINDS[resource["kind"]].model_validate(resource)
    else:
        for version in VERSIONS:
            kubernetes_validate.validate(resource, version, strict=True)


@pytest.mark.parametrize("resource", EVERY_RESOURCE)
def test_a_resource_fits_its_schema(resource: Resource) -> None:
    check(resource)


@pytest.mark.parametrize("resource", EVERY_RESOURCE)
def test_a_field_that_is_not_in_the_schema_is_noticed(resource: Resource) -> None:
    changed = copy.deepcopy(resource)
    changed.setdefault("spec", changed)["misspelt"] = 1
    with pytest.raises((kubernetes_validate.ValidationError, ValidationError), match="misspelt"):
        check(changed)


@pytest.mark.parametrize("name", OVERLAYS)
def test_everything_is_in_one_namespace_that_takes_restricted_pods_alone(name: str) -> None:
    [namespace] = of_kind(overlay(name), "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = [item for item in overlay(name) if item is not namespace]
    assert {item["metadata"].get("namespace") for item in others} == {namespace["metadata"]["name"]}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("pod.automountServiceAccountToken", False),
        ("pod.enableServiceLinks", False),
        ("pod.hostNetwork", None),
        ("pod.hostPID", None),
        ("pod.hostIPC", None),
        ("pod.securityContext.runAsNonRoot", True),
        ("pod.securityContext.seccompProfile.type", "RuntimeDefault"),
        ("container.securityContext.allowPrivilegeEscalation", False),
        ("container.securityContext.readOnlyRootFilesystem", True),
        ("container.securityContext.privileged", None),
        ("container.securityContext.capabilities", {"drop": ["ALL"]}),
    ],
)
@pytest.mark.parametrize("workload", EVERY_WORKLOAD)
def test_a_container_may_do_nothing_that_it_does_not_need(workload: Workload, path: str, expected: object) -> None:
    first, *keys = path.split(".")
    value = getattr(workload, first)
    for key in keys:
        value = None if value is None else value.get(key)
    assert value == expected


@pytest.mark.parametrize("workload", EVERY_WORKLOAD)
def test_a_container_has_a_share_of_processor_and_memory(workload: Workload) -> None:
    resources = workload.container["resources"]
    assert {"cpu", "memory"} <= set(resources["requests"])
    assert "memory" in resources["limits"]


@pytest.mark.parametrize("workload", EVERY_WORKLOAD)
def test_what_a_pod_mounts_is_there_and_of_a_kind_that_restricted_pods_may_have(workload: Workload) -> None:
    volumes = workload.pod["volumes"]
    claimed = [claim["metadata"]["name"] for claim in workload.spec.get("volumeClaimTemplates", [])]
    mounted = [mount["name"] for mount in workload.container["volumeMounts"]]
    assert sorted(mounted) == sorted([*(volume["name"] for volume in volumes), *claimed])
    kinds = {kind for volume in volumes for kind in volume if kind != "name"}
    assert kinds <= {"emptyDir", "persistentVolumeClaim", "secret"}


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_claim_exists_and_can_be_used_on_several_nodes(name: str) -> None:
    claims = of_kind(overlay(name), "PersistentVolumeClaim")
    named = {
        volume["persistentVolumeClaim"]["claimName"]
        for workload in workloads(overlay(name)).values()
        for volume in workload.pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert named == set(claims)
    assert all(claim["spec"]["accessModes"] == ["ReadWriteMany"] for claim in claims.values())


def selectors(resources: list[Resource]) -> Iterator[tuple[str, Resource]]:
    """Yield every selector of pods of this namespace, and where it stands."""
    for item in resources:
        where, spec = f"{item['kind']} {item['metadata']['name']}", item.get("spec", {})
        if item["kind"] == "Service":
            yield where, {"matchLabels": spec["selector"]}
        elif "selector" in spec:
            yield where, spec["selector"]
        if item["kind"] == "NetworkPolicy":
            yield where, spec["podSelector"]
            for rule in [*spec.get("ingress", []), *spec.get("egress", [])]:
                yield from (
                    (where, peer["podSelector"])
                    for peer in [*rule.get("from", []), *rule.get("to", [])]
                    if "podSelector" in peer
                )


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_selector_selects_something(name: str) -> None:
    made = workloads(overlay(name)).values()
    for where, selector in selectors(overlay(name)):
        assert any(selects(selector, workload.labels) for workload in made), where


@pytest.mark.parametrize("workload", EVERY_WORKLOAD)
def test_what_makes_pods_selects_its_own_and_spreads_these(workload: Workload) -> None:
    assert selects(workload.spec["selector"], workload.labels)
    for constraint in workload.pod.get("topologySpreadConstraints", []):
        assert selects(constraint["labelSelector"], workload.labels)


@pytest.mark.parametrize("name", OVERLAYS)
def test_nobody_else_selects_the_pods_of_a_workload(name: str) -> None:
    made = workloads(overlay(name)).values()
    budgets = of_kind(overlay(name), "PodDisruptionBudget").values()
    for workload in made:
        assert [it.name for it in made if selects(it.spec["selector"], workload.labels)] == [workload.name]
        assert sum(selects(budget["spec"]["selector"], workload.labels) for budget in budgets) <= 1


def test_workers_of_another_version_are_like_the_others_but_for_their_image_and_that_they_stand_beside() -> None:
    resources = overlay("two-versions")
    model, beside = (workloads(resources)[name] for name in ("model", "model-beside"))
    assert beside.settings(resources) == {**model.settings(resources), "BESIDE": "true"}
    different = {"image", "envFrom"}
    assert {key for key in model.container if model.container[key] != beside.container[key]} == different
    assert (model.container["image"], beside.container["image"]) == ("mlapi-model", "mlapi-model-beside")
    assert beside.labels["app.kubernetes.io/name"] == "model"  # by which the network policies let them out


@pytest.mark.parametrize("name", OVERLAYS)
def test_api_and_workers_are_spread_and_none_stops_before_another_has_started(name: str) -> None:
    for workload in ("api", "model"):
        made = workloads(overlay(name))[workload]
        assert made.spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": "25%"}
        assert [spread["topologyKey"] for spread in made.pod["topologySpreadConstraints"]] == [
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        ]
        budget = of_kind(overlay(name), "PodDisruptionBudget")[workload]["spec"]
        assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
        assert selects(budget["selector"], made.labels)


@pytest.mark.parametrize("name", OVERLAYS)
def test_services_and_ingress_lead_to_a_port_of_a_container(name: str) -> None:
    made, services = workloads(overlay(name)), of_kind(overlay(name), "Service")
    for service, item in services.items():
        [port] = item["spec"]["ports"]
        assert port["targetPort"] in {port["name"] for port in made[service].container["ports"]}
    [ingress] = of_kind(overlay(name), "Ingress").values()
    [rule] = ingress["spec"]["rules"]
    [path] = rule["http"]["paths"]
    backend = path["backend"]["service"]
    assert backend["port"]["name"] in {port["name"] for port in services[backend["name"]]["spec"]["ports"]}


@pytest.mark.parametrize("name", OVERLAYS)
def test_each_workload_has_a_number_or_something_that_scales_it(name: str) -> None:
    resources = overlay(name)
    scaled = [
        item["spec"]["scaleTargetRef"]["name"]
        for item in resources
        if item["kind"] in {"HorizontalPodAutoscaler", "ScaledObject"}
    ]
    numbered = [workload.name for workload in workloads(resources).values() if "replicas" in workload.spec]
    assert sorted([*scaled, *numbered]) == sorted(workloads(resources))


@pytest.mark.parametrize("name", OVERLAYS)
def test_there_is_no_secret_in_the_manifests(name: str) -> None:
    assert not of_kind(overlay(name), "Secret")


@pytest.mark.parametrize("workload", EVERY_WORKLOAD)
def test_secrets_are_files_that_must_be_there_and_that_their_user_alone_reads(workload: Workload) -> None:
    secrets = [volume["secret"] for volume in workload.pod["volumes"] if "secret" in volume]
    assert "redis-password" in {secret["secretName"] for secret in secrets}
    assert not any(secret.get("optional") for secret in secrets)
    assert {oct(secret["defaultMode"]) for secret in secrets} == {"0o440"}
    assert "env" not in workload.container
    context = workload.pod["securityContext"]
    assert context["fsGroup"] == context["runAsGroup"]
