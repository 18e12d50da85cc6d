"""Conditions: the closed list of types, and the pure functions that keep a list of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from .struct import Struct

ConditionStatus = Literal["True", "False", "Unknown"]

READY = "Ready"
"""This generation's revision takes all traffic and has answered."""
AVAILABLE = "Available"
"""Some revision can take traffic now."""
SOURCE_READY = "SourceReady"
OPTIMIZED = "Optimized"
QUALITY_PASSED = "QualityPassed"
SERVING_READY = "ServingReady"
ROUTE_READY = "RouteReady"
STALLED = "Stalled"
"""Only a new spec or an action helps."""
DEGRADED = "Degraded"
SUSPENDED = "Suspended"
ROLLED_BACK = "RolledBack"
OUTDATED = "Outdated"
"""The runtime or the recipe was edited since this revision was made."""
BATCH_LIMITED = "BatchLimited"
"""Answers depend on batch neighbours, so Triton batches less than the spec allows."""

ONLY_WHILE_TRUE = frozenset({STALLED, DEGRADED, SUSPENDED, ROLLED_BACK, OUTDATED, BATCH_LIMITED})
"""Abnormal conditions: absent unless True, so that health checks which distrust a False condition stay happy."""


class Condition(Struct, frozen=True):
    """A metav1.Condition. `observedGeneration` is the generation of the object that carries it."""

    type: str
    status: ConditionStatus
    reason: str
    message: str
    last_transition_time: str = ""
    observed_generation: int = 0


def merge(old: Iterable[Condition], new: Iterable[Condition], *, now: str) -> tuple[Condition, ...]:
    """The new list, each condition keeping its old transition time unless its status changed. Sorted by type."""
    before = {c.type: c for c in old}
    merged = []
    for c in new:
        known = before.get(c.type)
        since = known.last_transition_time if known and known.status == c.status else now
        merged.append(Condition(c.type, c.status, c.reason, c.message, since, c.observed_generation))
    return tuple(sorted(merged, key=lambda c: c.type))


def find(conditions: Iterable[Condition], type: str) -> Condition | None:
    """The condition of that type, if present."""
    return next((c for c in conditions if c.type == type), None)
