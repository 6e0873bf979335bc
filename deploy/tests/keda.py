"""What KEDA 2.18 takes, as far as the manifests use it: no package has its schemas.

From https://keda.sh/docs/2.18: reference/scaledobject-spec, scalers/redis-streams and concepts/authentication.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

# KEDA refuses numbers here, and takes these as numbers.
Count = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Name(_Strict):
    name: str


class _Metadata(_Strict):
    name: str
    namespace: str


class _Fallback(_Strict):
    failureThreshold: int = Field(ge=0)
    replicas: int = Field(ge=0)
    behavior: Literal["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"]


class _HorizontalPodAutoscalerConfig(_Strict):
    behavior: dict[str, Any]  # Kubernetes' own


class _Advanced(_Strict):
    horizontalPodAutoscalerConfig: _HorizontalPodAutoscalerConfig


class Queue(_Strict):
    """A stream whose length is looked at. KEDA would look at a group instead, were one named."""

    address: Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]+:[0-9]+$")]
    stream: str
    streamLength: Count
    enableTLS: Literal["true", "false"] = "false"


class Trigger(_Strict):
    """One reason to have more workers."""

    name: str
    type: Literal["redis-streams"]
    metadata: Queue
    authenticationRef: _Name


class ScaledObjectSpec(_Strict):
    """What is scaled, between which numbers, and why."""

    scaleTargetRef: _Name
    minReplicaCount: int = Field(ge=0)
    maxReplicaCount: int = Field(ge=1)
    pollingInterval: int = Field(ge=1)
    cooldownPeriod: int = Field(default=300, ge=0)
    initialCooldownPeriod: int = Field(default=0, ge=0)
    fallback: _Fallback
    advanced: _Advanced
    triggers: list[Trigger] = Field(min_length=1)


class ScaledObject(_Strict):
    """A KEDA ScaledObject."""

    apiVersion: Literal["keda.sh/v1alpha1"]
    kind: Literal["ScaledObject"]
    metadata: _Metadata
    spec: ScaledObjectSpec


class _SecretTarget(_Strict):
    parameter: Literal["username", "password"]
    name: str
    key: str


class _TriggerAuthenticationSpec(_Strict):
    secretTargetRef: list[_SecretTarget]


class TriggerAuthentication(_Strict):
    """A KEDA TriggerAuthentication."""

    apiVersion: Literal["keda.sh/v1alpha1"]
    kind: Literal["TriggerAuthentication"]
    metadata: _Metadata
    spec: _TriggerAuthenticationSpec


KINDS: dict[str, type[BaseModel]] = {"ScaledObject": ScaledObject, "TriggerAuthentication": TriggerAuthentication}
