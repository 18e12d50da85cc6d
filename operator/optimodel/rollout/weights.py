"""What a rollout status means for the world: weights, rules, objects and replicas. Nothing here decides."""

from __future__ import annotations

from collections.abc import Sequence

from ..api.spec import RolloutStep
from ..api.status import RolloutPhase, RolloutStatus
from .types import Observed, Seen

STEPPING: tuple[RolloutPhase, ...] = ("Shifting", "Settling", "AwaitingApproval")
"""Phases in which a rollout stands at one of its steps."""


def effective(status: RolloutStatus) -> RolloutPhase:
    """The phase, or the one that a pause interrupted."""
    return status.paused_from or status.phase


def target(steps: Sequence[RolloutStep], status: RolloutStatus) -> int:
    """Percent that the candidate is to have in its present step; a step without a weight keeps what is."""
    if effective(status) in ("Promoting", "Retaining") or status.promote or not status.stable or status.recreate:
        return 100
    if status.step >= len(steps):
        return 100
    weight = steps[status.step].weight
    return status.weight if weight is None else weight


def needed(status: RolloutStatus, weight: int, observed: Observed) -> int:
    """Ready endpoints that a revision must have before it takes `weight` percent: its share of stable's, at least 1."""
    whole = min(status.stable_replicas, observed.max_replicas)
    return max(1, -(-whole * weight // 100))


def wanted(status: RolloutStatus | None, stable: str) -> dict[str, int]:
    """Percent by hash, no zeros; empty while nothing may take traffic."""
    if status is None or status.phase == "RollingBack":
        shares = {stable: 100}
    elif status.phase == "Retaining":
        shares = {status.candidate: 100}
    elif status.stable:
        shares = {status.stable: 100 - status.weight, status.candidate: status.weight}
    else:
        shares = {status.candidate: 100 if status.weight == 100 else 0}
    return {h: w for h, w in sorted(shares.items()) if h and w}


def named(status: RolloutStatus | None, stable: str) -> tuple[str, ...]:
    """Revisions that may be asked for by header: all that have weight, and a candidate on its way, even at weight 0."""
    hashes = set(wanted(status, stable))
    if status is not None and effective(status) in STEPPING:
        hashes.add(status.candidate)
    return tuple(sorted(hashes))


def serve(status: RolloutStatus | None, stable: str, observed: Observed) -> tuple[str, ...]:
    """Revisions whose objects must exist."""
    if status is None:
        hashes = {stable}
    elif status.recreate and effective(status) in ("Preparing", "Promoting"):
        others = observed.revisions.keys() - {status.candidate}
        hashes = set() if others and status.candidate not in observed.revisions else {status.candidate}
    else:
        hashes = {status.stable, status.candidate}
    return tuple(sorted(hashes - {""}))


def floors(steps: Sequence[RolloutStep], status: RolloutStatus | None, observed: Observed) -> dict[str, int]:
    """Least replicas by hash: stable keeps what it had when the rollout began, the candidate gets its coming share. Its pods
    go after their traffic: it keeps what routes still send it for, and on its way back all that it has (under `Recreate`
    they make room for stable's)."""
    if status is None or not status.stable:
        return {}
    back, candidate = status.phase == "RollingBack", status.candidate
    share = status.weight if back else max(status.weight, target(steps, status))
    has = min(observed.revisions.get(candidate, Seen()).replicas, observed.max_replicas)
    routed = needed(status, observed.route.weights.get(candidate, 0), observed)
    kept = has if back and not status.recreate else min(has, routed)
    return {status.stable: needed(status, 100, observed), candidate: max(kept, needed(status, share, observed))}
