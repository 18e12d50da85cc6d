"""Status of `OptimizedModel` and `ModelRevision` as typed values; the CRDs bound every list and string."""

from __future__ import annotations

from typing import Literal

from .conditions import Condition
from .contract import Artifact, Figures, GateResult, Pins, StepProgress
from .search import SearchResult
from .struct import Struct

Phase = Literal[
    "Pending",
    "Optimizing",
    "Deploying",
    "Canary",
    "Promoting",
    "RollingBack",
    "Ready",
    "Degraded",
    "Failed",
    "Suspended",
    "Deleting",
]

RolloutPhase = Literal[
    "Preparing", "Shifting", "Settling", "AwaitingApproval", "Promoting", "Retaining", "RollingBack", "Paused"
]


class Failure(Struct, frozen=True):
    """The last thing that went wrong: where, why, what to do, when."""

    component: str
    reason: str
    message: str
    pod: str = ""
    exit_code: int | None = None
    time: str = ""


class Attempt(Struct, frozen=True):
    """The Job that is working, or that last worked, on a revision. `job_hash` changes when its inputs outside the revision do, and
    from one Job to the next where the steps are done in several."""

    revision: str
    job_hash: str
    number: int = 1
    retry_at: str = ""
    """When the next attempt starts; empty = not waiting."""
    failed: bool = False
    pins: Pins | None = None
    """What the Jobs before it, each of some steps, made of the revision."""


class RevisionSummary(Struct, frozen=True):
    """One line of `status.revisions`."""

    name: str
    hash: str
    state: Literal["Optimizing", "Deploying", "Stable", "Candidate", "Retiring", "Retained", "Failed"]
    weight: int = 0
    ready_replicas: int = 0


class RolloutStatus(Struct, frozen=True):
    """Where the move from `stable` to `candidate` stands. Everything a restart needs is here; times are RFC 3339 UTC."""

    phase: RolloutPhase
    stable: str
    candidate: str
    step: int = 0
    step_name: str = ""
    """Of the present step; below 100 % of a promotion, of the last one passed."""
    weight: int = 0
    """Wanted weight of the candidate, percent."""
    since: str = ""
    """When the present phase began."""
    weighed_at: str = ""
    """When the gateway accepted the present weight."""
    started_at: str = ""
    approved: tuple[str, ...] = ()
    """Names of the steps that were approved."""
    promote: bool = False
    """A person passed all steps: straight to promotion once the candidate is Ready."""
    recreate: bool = False
    """The rollout began under strategy Recreate: the old revision goes before the new one starts."""
    unready_since: str = ""
    """Since when the candidate has had no ready endpoint; empty = it has one, or is not expected to."""
    paused_from: RolloutPhase | None = None
    stable_replicas: int = 0
    """Replicas of the stable revision when the rollout began: the floor of its autoscaler until the end."""
    reason: str = ""
    message: str = ""


class OptimizedModelStatus(Struct, frozen=True):
    """What is the case. `observedGeneration` is the object's own."""

    observed_generation: int = 0
    phase: Phase | None = None
    conditions: tuple[Condition, ...] = ()
    revision: str = ""
    """Hash of this generation's revision."""
    stable_revision: str = ""
    """Hash of the revision that takes the traffic outside a rollout."""
    failed_revisions: tuple[str, ...] = ()
    """Revisions that were rolled back; not tried again unless asked."""
    attempt: Attempt | None = None
    steps: tuple[StepProgress, ...] = ()
    gates: tuple[GateResult, ...] = ()
    figures: Figures | None = None
    search: SearchResult | None = None
    size: str = ""
    quality: str = ""
    canary: str = ""
    revisions: tuple[RevisionSummary, ...] = ()
    rollout: RolloutStatus | None = None
    handled_action: str = ""
    """The last value of the action annotation that was acted on (or refused), so that it is handled once."""
    replicas: int = 0
    selector: str = ""
    endpoint: str = ""
    last_failure: Failure | None = None


class ModelRevisionStatus(Struct, frozen=True):
    """What optimizing found. Filled once; a re-judgement under other gates replaces `gates`, `figures` and `evaluation`."""

    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()
    phase: Literal["Pending", "Optimized", "Rejected"] = "Pending"
    artifact: Artifact | None = None
    evaluation: str = ""
    gates: tuple[GateResult, ...] = ()
    figures: Figures | None = None
    search: SearchResult | None = None
    steps: tuple[StepProgress, ...] = ()
    report: str = ""
    remade: int = 0
    """How often in a row the artifact went from the store and was made again unasked."""
