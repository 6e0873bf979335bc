"""The network policies, read as a cluster reads them: who reaches whom."""

from dataclasses import dataclass

import pytest

from deploy.tests.manifests import OVERLAYS, Resource, of_kind, overlay, selects, workloads

REDIS, HTTP, DNS = 6379, 5000, 53
HERE = "mlapi"


@dataclass(frozen=True)
class Peer:
    """A pod of some namespace; without a name, any of it."""

    name: str
    namespace: str = HERE

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the pod."""
        return {"app.kubernetes.io/name": self.name}

    def is_in(self, rule: list[Resource] | None) -> bool:
        """Tell whether a rule's peers include this one; without any, all are."""
        return rule is None or any(self._is(peer) for peer in rule)

    def _is(self, peer: Resource) -> bool:
        """Tell whether this is a peer of a rule: of the policy's own namespace, where it names none."""
        if "ipBlock" in peer:
            return False
        if "namespaceSelector" not in peer:
            return self.namespace == HERE and selects(peer["podSelector"], self.labels)
        there = selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": self.namespace})
        return there and selects(peer.get("podSelector", {}), self.labels)


API, MODEL, REDIS_POD = Peer("api"), Peer("model"), Peer("redis")
CONTROLLER, KEDA, NAMES = Peer("", "nginx-ingress"), Peer("", "keda"), Peer("", "kube-system")
STRANGER = Peer("api", "default")


def ports(overlay_name: str, rule: Resource) -> set[int]:
    """Return the ports of a rule by number."""
    named = {
        port["name"]: port["containerPort"]
        for workload in workloads(overlay(overlay_name)).values()
        for port in workload.container.get("ports", [])
    }
    return {named.get(port["port"], port["port"]) for port in rule["ports"]}


def allows(overlay_name: str, direction: str, pod: Peer, other: Peer, port: int) -> bool:
    """Tell whether the policies for a pod let it receive from another, or send to it. What is elsewhere has none."""
    if pod.namespace != HERE:
        return True
    rules = [
        rule
        for policy in of_kind(overlay(overlay_name), "NetworkPolicy").values()
        if selects(policy["spec"]["podSelector"], pod.labels)
        for rule in policy["spec"].get(direction, [])
    ]
    side = {"ingress": "from", "egress": "to"}[direction]
    return any(other.is_in(rule.get(side)) and port in ports(overlay_name, rule) for rule in rules)


def reaches(overlay_name: str, sender: Peer, receiver: Peer, port: int) -> bool:
    """Tell whether both sides' policies let one reach the other."""
    return allows(overlay_name, "egress", sender, receiver, port) and allows(
        overlay_name, "ingress", receiver, sender, port
    )


@pytest.mark.parametrize("name", OVERLAYS)
def test_what_is_not_allowed_is_denied(name: str) -> None:
    policies = {policy: item["spec"] for policy, item in of_kind(overlay(name), "NetworkPolicy").items()}
    assert policies.pop("deny") == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for spec in policies.values():  # none denies by having no rules
        assert {kind.lower() for kind in spec["policyTypes"]} == {"ingress", "egress"} & set(spec)


@pytest.mark.parametrize(
    ("sender", "receiver", "port", "expected"),
    [
        (CONTROLLER, API, HTTP, True),
        (CONTROLLER, REDIS_POD, REDIS, False),
        (CONTROLLER, MODEL, HTTP, False),
        (API, REDIS_POD, REDIS, True),
        (MODEL, REDIS_POD, REDIS, True),
        (API, MODEL, HTTP, False),
        (API, API, HTTP, False),
        (MODEL, API, HTTP, False),
        (REDIS_POD, API, HTTP, False),
        (REDIS_POD, REDIS_POD, REDIS, False),
        (STRANGER, API, HTTP, False),
        (STRANGER, REDIS_POD, REDIS, False),
        (KEDA, API, HTTP, False),
        (API, NAMES, DNS, True),
        (MODEL, NAMES, DNS, True),
        (API, NAMES, 443, False),
        (API, CONTROLLER, 443, False),
    ],
)
@pytest.mark.parametrize("name", ["small", "autoscaled"])
def test_who_reaches_whom(name: str, sender: Peer, receiver: Peer, port: int, expected: bool) -> None:
    assert reaches(name, sender, receiver, port) == expected


@pytest.mark.parametrize(("name", "expected"), [("small", False), ("autoscaled", True)])
def test_keda_reaches_redis_where_it_is_used(name: str, expected: bool) -> None:
    assert reaches(name, KEDA, REDIS_POD, REDIS) == expected


@pytest.mark.parametrize("pod", ["api", "model"])
def test_a_managed_redis_is_all_that_is_reached_outside(pod: str) -> None:
    blocks = [
        (peer["ipBlock"], rule["ports"])
        for policy in of_kind(overlay("managed-redis"), "NetworkPolicy").values()
        if selects(policy["spec"]["podSelector"], Peer(pod).labels)
        for rule in policy["spec"].get("egress", [])
        for peer in rule["to"]
        if "ipBlock" in peer
    ]
    assert blocks == [({"cidr": "10.1.0.0/16"}, [{"protocol": "TCP", "port": REDIS}])]
