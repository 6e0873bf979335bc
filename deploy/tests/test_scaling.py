"""What docs/scaling.md reckons with: what was measured, and what the manifests ask for."""

import re

import pytest

from deploy.tests.manifests import of_kind, overlay, workloads
from testing import pages


@pytest.mark.parametrize(
    ("used", "measured"),
    [
        ("291 / 2", r"^\| 64 \| 291 \|"),
        ("452 / 2", r"^\| \*\*2\*\* \| \*\*1\*\* \| \*\*4\*\* \| \*\*452\*\* \|"),
        ("1000 / (49 + 2.4)", r"\b2\.4 ms beside\s+the\s+49\s+ms\s+of\s+ResNet-50"),
        ("| 5 ms | 200 a second |", r"\blimit does, some 5 ms"),
        ("| 2 ms | 500 a second |", r"\bAPI's 2 ms on these"),
        ("| 0.2 ms | 5000 a second |", r"\bRedis takes 0\.2 ms"),
    ],
)
def test_scaling_reckons_with_what_was_measured(used: str, measured: str) -> None:
    assert used in pages.read("docs/scaling.md")
    figures = pages.read("docs/performance.md") + pages.read("docs/notes/measurements.md")
    assert re.search(measured, figures, re.MULTILINE)


def test_scaling_knows_what_the_smallest_autoscaled_service_asks_for() -> None:
    resources = overlay("autoscaled")
    least = {"api": of_kind(resources, "HorizontalPodAutoscaler")["api"]["spec"]["minReplicas"]}
    least |= {"model": of_kind(resources, "ScaledObject")["model"]["spec"]["minReplicaCount"]}
    least |= {"redis": workloads(resources)["redis"].spec["replicas"]}
    asked = {
        name: workload.container["resources"]["requests"]["cpu"] for name, workload in workloads(resources).items()
    }
    assert (least, asked) == ({"api": 2, "model": 1, "redis": 1}, {"api": "500m", "model": "1", "redis": "250m"})
    assert "vcpus = 2 * 0.5 + 1 + 0.25\n" in pages.read("docs/scaling.md")
