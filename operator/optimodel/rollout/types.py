"""What the machine sees and what it answers: plain values, so that a decision can be printed, compared and tested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..api.status import RolloutStatus


@dataclass(frozen=True, slots=True)
class Seen:
    """The serving objects of one revision as they are."""

    ready: bool = False
    """Its Deployment has ready pods and the operator's own inference was answered."""
    endpoints: int = 0
    """Ready endpoints of its Service."""
    replicas: int = 0
    """Replicas its Deployment asks for."""


@dataclass(frozen=True, slots=True)
class RouteState:
    """The routes as read back. With several kinds of route they must agree, or `accepted` is False."""

    weights: Mapping[str, int] = field(default_factory=dict)
    """Percent by revision hash of the weighted rule."""
    named: frozenset[str] = frozenset()
    """Revisions that any rule names."""
    accepted: bool = False
    """Every parent of every kind has accepted and resolved this very generation."""


@dataclass(frozen=True, slots=True)
class Observed:
    """The world as one decision sees it."""

    candidate: str
    """Hash of this generation's revision; empty = not known yet, then a rollout in flight goes on."""
    deployable: bool
    """That revision is optimized and passed its gates, so it may be started."""
    lost: bool = False
    """That revision had started, and what it serves is being made again."""
    stable: str = ""
    """`status.stableRevision`; empty = nothing was ever served."""
    revisions: Mapping[str, Seen] = field(default_factory=dict)
    """By hash: every revision of which a Deployment exists, stable and retiring ones included."""
    route: RouteState = RouteState()
    """Ignored while `spec.rollout.router` is absent."""
    replicas: int = 1
    """Replicas (or the autoscaler's minimum) that this generation asks for."""
    max_replicas: int = 1_000
    """The autoscaler's maximum, or the fixed number of replicas: no floor is set above it."""
    action: str = ""
    """Value of the action annotation."""
    handled_action: str = ""
    """`status.handledAction`."""
    failed_revisions: tuple[str, ...] = ()
    """`status.failedRevisions`."""


@dataclass(frozen=True, slots=True)
class Event:
    """A Kubernetes Event to emit once."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What should be. Everything but `events` may be written again without harm; status fields go in ONE patch."""

    rollout: RolloutStatus | None
    """`status.rollout`; None = nothing in flight."""
    stable: str
    """`status.stableRevision`. Changes at one place only, after the gateway accepted 100 % for the candidate."""
    weights: Mapping[str, int]
    """Percent by hash for the weighted rule, summing to 100, no zeros. Empty = no route is wanted (yet)."""
    named: tuple[str, ...]
    """Revisions that get a header rule, sorted. A revision that drains is not among them."""
    serve: tuple[str, ...]
    """Revisions whose Deployment, Service and autoscaler must exist, sorted. All others, unnamed by the route and drained, are
    deleted (never scaled to 0)."""
    min_replicas: Mapping[str, int]
    """By hash: floor of replicas (of the autoscaler's minimum) during the rollout. Absent = no floor."""
    failed_revisions: tuple[str, ...]
    """`status.failedRevisions`, whole and bounded."""
    handled_action: str
    """`status.handledAction`."""
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None
    """Seconds until time alone changes the decision; None = only a change of the world does."""
    rolled_back: tuple[str, str] | None = None
    """Reason and message, given once by the decision that begins a rollback that counts as a failure. The condition
    RolledBack stays as long as this generation's hash is among `failed_revisions`."""
    stalled: tuple[str, str] | None = None
    """Reason and message while waiting cannot help: a first revision that missed its deadline."""
