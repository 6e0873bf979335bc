"""The manifests of deploy/kubernetes as kubectl renders them, and what they say."""

import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = tuple(sorted(path.name for path in (KUBERNETES / "overlays").iterdir()))

Resource = dict[str, Any]


def render(folder: Path) -> list[Resource]:
    """Return the resources of a folder with a kustomization."""
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not done.stderr  # what is deprecated
    return list(yaml.safe_load_all(done.stdout))


@cache
def overlay(name: str) -> list[Resource]:
    """Return the resources of an overlay, which nobody changes."""
    return render(KUBERNETES / "overlays" / name)


def of_kind(resources: Iterable[Resource], kind: str) -> dict[str, Resource]:
    """Return the resources of a kind by their names."""
    return {item["metadata"]["name"]: item for item in resources if item["kind"] == kind}


@dataclass(frozen=True)
class Workload:
    """What makes pods: its name, and what its pods are like."""

    name: str
    kind: str
    spec: Resource

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its pods."""
        return dict(self.spec["template"]["metadata"]["labels"])

    @property
    def service(self) -> str:
        """What its pods are: `api`, `model` or `redis`."""
        return self.labels["app.kubernetes.io/name"]

    @property
    def pod(self) -> Resource:
        """The specification of its pods."""
        return dict(self.spec["template"]["spec"])

    @property
    def container(self) -> Resource:
        """The only container of a pod."""
        assert not self.pod.get("initContainers")
        [container] = self.pod["containers"]
        return dict(container)

    def settings(self, resources: Iterable[Resource]) -> dict[str, str]:
        """Return the environment that its container has from config maps."""
        maps = of_kind(resources, "ConfigMap")
        names = [source["configMapRef"]["name"] for source in self.container.get("envFrom", [])]
        return {key: value for name in names for key, value in maps[name]["data"].items()}


def workloads(resources: Iterable[Resource]) -> dict[str, Workload]:
    """Return what makes pods, by name."""
    kinds = {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"}
    made = [item for item in resources if item["kind"] in kinds]
    return {item["metadata"]["name"]: Workload(item["metadata"]["name"], item["kind"], item["spec"]) for item in made}


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Tell whether a selector selects what has these labels."""
    assert set(selector) <= {"matchLabels", "matchExpressions"}
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions)
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )


EVERY_WORKLOAD = [
    pytest.param(workload, id=f"{name}-{workload.name}")
    for name in OVERLAYS
    for workload in workloads(overlay(name)).values()
]
