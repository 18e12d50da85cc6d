"""What the API server said to the writes of the last plan: what the world may mend, and what only another spec does."""

from __future__ import annotations

from collections.abc import Collection

from ..api import conditions as c
from ..api.status import Failure
from .types import Event, Refused, Snapshot

INVALID = "SpecInvalid"

_FIELDS = {
    "Job": "spec.optimization (podTemplate, podTemplates, queueName)",
    "Deployment": "spec.serving (podTemplate, resources)",
    "HorizontalPodAutoscaler": "spec.serving.autoscaling",
}
"""Kinds that hold words of the spec which our schema does not check to the end, and where those stand."""


def invalid(s: Snapshot, kinds: Collection[str] = tuple(_FIELDS)) -> Failure | None:
    """What this generation asks for and the API server never takes, and what to correct."""
    found = next((r for r in s.refused if _of_spec(r) and r.kind in kinds and r.generation == s.meta.generation), None)
    if found is None:
        return None
    words = found.words.rstrip(".")
    text = f"the API server refuses what is made of the spec: {words}. Correct {_FIELDS[found.kind]}."
    return Failure("apiserver", INVALID, text)


def invalid_job(s: Snapshot, name: str) -> Failure | None:
    """The same of one Job."""
    return invalid(s, ("Job",)) if any((r.kind, r.name) == ("Job", name) for r in s.refused) else None


def awaited(s: Snapshot) -> tuple[str, ...]:
    """Refusals that the world may mend, in the server's words."""
    return tuple(r.words for r in s.refused if not _of_spec(r))


def _of_spec(refused: Refused) -> bool:
    return refused.content and refused.kind in _FIELDS


def news(s: Snapshot) -> tuple[Event, ...]:
    """An Event when a refusal that only another spec mends is new. That of a Job is told by its attempt."""
    found = invalid(s, tuple(kind for kind in _FIELDS if kind != "Job"))
    known = c.find(s.status.conditions, c.STALLED)
    if found is None or (known is not None and known.reason == INVALID):
        return ()
    return (Event("Warning", found.reason, found.message),)
