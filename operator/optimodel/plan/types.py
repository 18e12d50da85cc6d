"""What the plan decides on and what it decides: `Snapshot` in, `Plan` out. Both are plain values that can be printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..api.contract import Progress
from ..api.spec import ModelRevisionSpec, OptimizedModelSpec, RecipeSpec, TritonRuntimeSpec
from ..api.status import ModelRevisionStatus, OptimizedModelStatus

Manifest = Mapping[str, Any]
"""A Kubernetes object as the API server speaks it."""


@dataclass(frozen=True)
class Ref:
    """An object to delete. `uid`, where known, guards against deleting a successor of the same name."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str = ""


@dataclass(frozen=True)
class Event:
    """A Kubernetes Event on the OptimizedModel."""

    type: str
    reason: str
    message: str
    of: str = ""
    """Name of the object that it tells the making of: not told when that was refused."""


@dataclass(frozen=True)
class ProbeTarget:
    """A Triton pod that is to answer one real inference: `url` is its base address, the golden answer comes from the artifact."""

    uid: str
    url: str
    model: str
    golden_text: str
    golden_output: str
    golden_head: tuple[str, ...]
    tolerance: str
    max_tokens: int = 0
    """How long the answer may be, where a model writes it; 0 = not said."""
    input: str = "TEXT"
    golden_places: tuple[int, ...] = ()
    """Where in the output the values of `golden_head` stand; empty = they are the first."""
    seconds: float = 5.0
    """How long it may take: as long as the kubelet's own probe of the pod. Who is Ready by that one is heard here."""


@dataclass(frozen=True)
class ProgressTarget:
    """A worker pod whose progress page is of interest."""

    uid: str
    url: str


@dataclass(frozen=True)
class ComplaintTarget:
    """A Job that gets no pod: what its controller complains of is of interest."""

    uid: str
    namespace: str


@dataclass(frozen=True)
class ProbeResult:
    """What a pod answered last. `ok` = loaded and the golden answer came back."""

    ok: bool
    message: str = ""


@dataclass(frozen=True)
class Refused:
    """A write of the last plan that the API server refused, in its words."""

    kind: str
    name: str
    words: str
    content: bool = False
    """It never takes this content, whatever becomes of the cluster."""
    generation: int = 0
    """Generation of the OptimizedModel that asked for it."""


@dataclass(frozen=True)
class Platform:
    """Settings of the installation that shape manifests."""

    worker_image: str
    operator_image: str
    image_pull_policy: str = "IfNotPresent"
    network_policy: bool = False
    gateway_namespace: str = ""
    operator_namespace: str = ""
    worker_images: Mapping[str, str] = field(default_factory=dict)
    """Beside the default one, those that a Job's pods may name."""


@dataclass(frozen=True)
class Meta:
    """Identity of the OptimizedModel."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    deleting: datetime | None
    finalizers: tuple[str, ...]
    annotations: Mapping[str, str]


@dataclass(frozen=True)
class Revision:
    """A ModelRevision as observed."""

    name: str
    uid: str
    generation: int
    created: str
    spec: ModelRevisionSpec
    status: ModelRevisionStatus


@dataclass(frozen=True)
class Snapshot:
    """Everything known of one OptimizedModel at one moment. Raw children are dicts; absent kinds are empty tuples."""

    now: datetime
    meta: Meta
    spec: OptimizedModelSpec
    status: OptimizedModelStatus
    runtime: TritonRuntimeSpec | None
    platform: Platform
    recipe: RecipeSpec | None = None
    """What `optimization.recipeRef` names, as it is now; None = it names none, or that does not exist."""
    revisions: tuple[Revision, ...] = ()
    jobs: tuple[Manifest, ...] = ()
    pods: tuple[Manifest, ...] = ()
    deployments: tuple[Manifest, ...] = ()
    services: tuple[Manifest, ...] = ()
    autoscalers: tuple[Manifest, ...] = ()
    http_routes: tuple[Manifest, ...] = ()
    grpc_routes: tuple[Manifest, ...] = ()
    network_policies: tuple[Manifest, ...] = ()
    probes: Mapping[str, ProbeResult] = field(default_factory=dict)
    """By pod uid."""
    progress: Mapping[str, Progress] = field(default_factory=dict)
    """By pod uid."""
    complaints: Mapping[str, str] = field(default_factory=dict)
    """By uid of a Job: why its controller makes no pod."""
    refused: tuple[Refused, ...] = ()
    namespace_terminating: bool = False
    digests_in_use: frozenset[str] = frozenset()
    """Artifact digests that ModelRevisions of other models of the namespace name."""
    route_conflict: str = ""
    """`kind/name` of an older object that already claims one of our hostnames, or like us all, on one of our gateways."""
    missing_kinds: frozenset[str] = frozenset()
    """Kinds that this cluster does not have (HTTPRoute, GRPCRoute)."""


@dataclass(frozen=True)
class Plan:
    """What is to be done, in this order: apply, revision status, status, routes, delete, events, finalizer."""

    handover: tuple[dict[str, Any], ...] = ()
    """Partial manifests applied first under a manager of their own, so that a field we give up keeps its value."""
    apply: tuple[dict[str, Any], ...] = ()
    revision_status: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    status: dict[str, Any] | None = None
    routes: tuple[dict[str, Any], ...] = ()
    """Applied after the status that promises their weights: who dies between the two goes on, and takes no weight back."""
    delete: tuple[Ref, ...] = ()
    events: tuple[Event, ...] = ()
    finalizer: bool | None = None
    """Whether our finalizer is to be there; None = it stays as it is. Those of others are theirs."""
    probes: tuple[ProbeTarget, ...] = ()
    progress: tuple[ProgressTarget, ...] = ()
    complaints: tuple[ComplaintTarget, ...] = ()
    requeue_after: float | None = None
