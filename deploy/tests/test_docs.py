"""What docs/kubernetes.md has its readers write and run."""

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from api.settings import ApiSettings
from api.webhooks.sender import Sender
from deploy.tests.manifests import KUBERNETES, Resource, of_kind, overlay, render, selects, workloads
from deploy.tests.test_manifests import check
from testing import pages
from tests.conftest import ROOT

PAGE = "docs/kubernetes.md"
TESTED = [block for block in pages.blocks(PAGE) if block.marker == "tested by deploy/tests/test_docs.py"]
# Prints the secrets instead of sending them to a cluster; without a cluster, the other commands do nothing.
KUBECTL = """
kubectl() {
    [ "$1 $2 $3" != "create secret generic" ] || { "$KUBECTL" "$@" --dry-run=client --output=yaml && echo ---; }
}
"""


def overlay_of_the_page(*more: str) -> str:
    """Return the kustomization that readers are to write, and what they may add to it."""
    [text] = [block.text for block in TESTED if block.language == "yaml" and "kind: Kustomization" in block.text]
    return "".join([text, *more])


def rendered(folder: Path, text: str) -> list[Resource]:
    """Return the resources of a kustomization that stands beside the other overlays."""
    others = os.path.relpath(KUBERNETES / "overlays", folder)
    (folder / "kustomization.yaml").write_text(text.replace("[../", f"[{others}/"))
    return render(folder)


@pytest.fixture
def made(tmp_path: Path) -> dict[str, dict[str, bytes]]:
    """Run the page's commands; return the secrets that they make, each with its files."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    script = "\n".join([KUBECTL, *(block.text for block in TESTED if not block.language)])
    kubectl = str(Path(sys.executable).with_name("kubectl"))
    environment = {**os.environ, "KUBECTL": kubectl, "KUBECONFIG": os.devnull, "PYTHONPATH": str(ROOT)}
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    printed = re.sub(r"^mlapi_\S+\n", "", done.stdout, flags=re.MULTILINE)  # alice's key
    secrets = [secret for secret in yaml.safe_load_all(printed) if secret]
    return {
        secret["metadata"]["name"]: {file: base64.b64decode(data) for file, data in secret["data"].items()}
        for secret in secrets
    }


def test_the_overlay_of_the_page_replaces_images_host_and_storage(tmp_path: Path) -> None:
    resources = rendered(tmp_path, overlay_of_the_page())
    for resource in resources:
        check(resource)
    for name, workload in workloads(resources).items():
        assert workload.container["image"] == f"registry.example/mlapi-{name}:1"
    [ingress] = of_kind(resources, "Ingress").values()
    settings = workloads(resources)["api"].settings(resources)
    assert ingress["spec"]["rules"][0]["host"] == settings["TRUSTED_HOSTS"] == "photos.example"
    assert ingress["spec"]["tls"][0]["hosts"] == ["photos.example"]
    assert settings["DRAIN_S"] == "10"  # what the overlay does not name stays
    claims = of_kind(resources, "PersistentVolumeClaim").values()
    assert [claim["spec"]["storageClassName"] for claim in claims] == ["nfs", "nfs"]


def test_changed_settings_replace_the_pods_that_have_them(tmp_path: Path) -> None:
    before, after = overlay("small"), rendered(tmp_path, overlay_of_the_page())

    def maps(resources: list[Resource], name: str) -> list[str]:
        return [source["configMapRef"]["name"] for source in workloads(resources)[name].container["envFrom"]]

    assert maps(before, "api") != maps(after, "api")
    assert maps(before, "model") == maps(after, "model")


def test_another_version_stands_beside_with_an_image_and_a_number_of_its_own(tmp_path: Path) -> None:
    [more] = [block.text for block in TESTED if "two-versions" in block.text]
    mine = {**yaml.safe_load(overlay_of_the_page()), **yaml.safe_load(more)}
    resources = rendered(tmp_path, yaml.safe_dump(mine, default_flow_style=None))
    for resource in resources:
        check(resource)
    made = {name: (it.container["image"], it.spec["replicas"]) for name, it in workloads(resources).items()}
    assert made["model"] == ("registry.example/mlapi-model:pets-1", 2)
    assert made["model-beside"] == ("registry.example/mlapi-model:pets-2", 2)


def test_webhooks_are_a_secret_and_a_way_to_the_internet(tmp_path: Path) -> None:
    [more] = [block.text for block in TESTED if "components/webhooks" in block.text]
    resources = rendered(tmp_path, overlay_of_the_page(more))
    for resource in resources:
        check(resource)
    api = workloads(resources)["api"]
    assert api.container["env"] == [
        {"name": "WEBHOOK_SECRET", "valueFrom": {"secretKeyRef": {"name": "webhook-secret", "key": "secret"}}}
    ]
    policy = of_kind(resources, "NetworkPolicy")["api-to-webhooks"]["spec"]
    assert selects(policy["podSelector"], api.labels)
    assert not any(
        selects(policy["podSelector"], workload.labels)
        for name, workload in workloads(resources).items()
        if name != "api"
    )
    [rule] = policy["egress"]
    assert {port["port"] for port in rule["ports"]} == {80, 443}
    [peer] = rule["to"]
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(peer["ipBlock"]["except"])


@pytest.mark.parametrize("name", ["small", "two-versions"])
def test_object_storage_needs_no_volume_and_is_reached_by_api_and_workers(name: str, tmp_path: Path) -> None:
    [more] = [block.text for block in TESTED if "components/object-storage" in block.text]
    mine = overlay_of_the_page(more).replace("../small", f"../{name}")
    before, resources = overlay(name), rendered(tmp_path, mine)
    for resource in resources:
        check(resource)
    assert set(of_kind(resources, "PersistentVolumeClaim")) == set(of_kind(before, "PersistentVolumeClaim")) - {
        "uploads"
    }
    policy = of_kind(resources, "NetworkPolicy")["api-and-model-to-object-storage"]["spec"]
    for name, workload in workloads(resources).items():
        is_reached = name in {"api", "model", "model-beside"}
        mounts = {mount["name"] for mount in workload.container["volumeMounts"]}
        assert mounts == {mount["name"] for mount in workloads(before)[name].container["volumeMounts"]} - {"uploads"}
        assert mounts >= {volume["name"] for volume in workload.pod["volumes"]}
        assert selects(policy["podSelector"], workload.labels) == is_reached
        credentials = {"secretRef": {"name": "storage-credentials", "optional": True}}
        assert (credentials in workload.container.get("envFrom", [])) == is_reached


def test_a_volume_with_models_is_read_by_the_workers_of_all_versions_and_by_nobody_else(tmp_path: Path) -> None:
    [more] = [yaml.safe_load(block.text) for block in TESTED if "components/model-volume" in block.text]
    mine = {**yaml.safe_load(overlay_of_the_page()), **more, "resources": ["../two-versions"]}
    resources = rendered(tmp_path, yaml.safe_dump(mine, default_flow_style=None))
    for resource in resources:
        check(resource)
    assert workloads(resources)["model"].settings(resources)["MODEL"] == "/models/mine/pets-1"
    volume = {"name": "models", "persistentVolumeClaim": {"claimName": "models"}}
    mount = {"name": "models", "mountPath": "/models/mine", "readOnly": True}
    assert of_kind(resources, "PersistentVolumeClaim")["models"]["spec"]["storageClassName"] == "nfs"
    for name, workload in workloads(resources).items():
        reads = name in {"model", "model-beside"}
        assert (volume in workload.pod["volumes"], mount in workload.container["volumeMounts"]) == (reads, reads)


def test_the_pod_that_fills_the_volume_is_a_restricted_one_that_may_write_to_it() -> None:
    [pod] = [yaml.safe_load(block.text) for block in TESTED if "kind: Pod\n" in block.text]
    check(pod)
    worker = workloads(overlay("small"))["model"]
    [container] = pod["spec"]["containers"]
    security = {**pod["spec"]["securityContext"], **container["securityContext"]}
    assert security.items() <= {**worker.pod["securityContext"], **worker.container["securityContext"]}.items()
    assert {"runAsNonRoot", "seccompProfile", "allowPrivilegeEscalation", "capabilities"} <= set(security)
    assert container["volumeMounts"] == [{"name": "models", "mountPath": "/models/mine"}]


def test_every_secret_is_made_with_the_files_that_the_services_read(made: dict[str, dict[str, bytes]]) -> None:
    mounted = set(re.findall(r'"secretName": "([\w-]+)"', json.dumps(overlay("autoscaled"))))
    text = "\n".join(block.text for block in TESTED)
    assert set(re.findall(r"kubectl create secret \w+ ([\w-]+)", text)) == mounted | {"webhook-secret"}

    settings = workloads(overlay("small"))["api"].settings(overlay("small"))
    files = {"redis-password": settings["REDIS_PASSWORD_FILE"], "api-keys": settings["API_KEYS_FILE"]}
    for name, file in files.items():
        assert list(made[name]) == [file.rpartition("/")[2]]
    assert re.fullmatch(rb"[0-9a-f]{64}", made["redis-password"]["password"])
    assert [key["name"] for key in json.loads(made["api-keys"]["keys.json"])] == ["alice"]


def test_the_secret_of_webhooks_is_one_that_they_take(made: dict[str, dict[str, bytes]]) -> None:
    settings = ApiSettings.model_validate({"webhook_secret": made["webhook-secret"]["secret"].decode()})
    assert settings.webhook_secret
    Sender(settings.webhook_secret.get_secret_value(), allow_private=False)
