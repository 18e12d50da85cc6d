"""The object is going: remove its artifacts if it asks for that, and never stand in the way for long."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from ..api import names
from ..api.contract import CleanupInput
from ..api.struct import plain
from ..resources.job import cleanup_job
from . import pods
from .optimize import ref
from .types import Event, Manifest, Plan, Ref, Snapshot

PATIENCE = timedelta(minutes=10)
"""Longest time the finalizer stays."""
_SHARED = "other models of the namespace name the same bytes"


def wanted(s: Snapshot) -> tuple[str, ...] | None:
    """The finalizers of a living object, if they must change: ours is there only while the policy is Delete."""
    ours, want = names.FINALIZER in s.meta.finalizers, s.spec.artifacts.deletion_policy == "Delete"
    if ours == want:
        return None
    others = tuple(f for f in s.meta.finalizers if f != names.FINALIZER)
    return (*others, names.FINALIZER) if want else others


def finalize(s: Snapshot) -> Plan:
    """Plans the end. Children go by their owner references; only the artifacts need us."""
    if names.FINALIZER not in s.meta.finalizers:
        return Plan()
    digests = {r.status.artifact.digest for r in s.revisions if r.status.artifact} - s.digests_in_use
    if s.spec.artifacts.deletion_policy != "Delete":
        return _release(s, None)
    if not digests:
        return _release(s, Event("Normal", "ArtifactsRetained", _SHARED) if s.digests_in_use else None)
    name = names.cleanup(s.meta.name, s.meta.uid)
    job = next((j for j in s.jobs if j["metadata"]["name"] == name), None)
    state = _state(job)
    if state == "Complete":
        told = "the artifacts of the kept revisions were removed from the store"
        told += f", but for {len(s.digests_in_use)}: {_SHARED}" if s.digests_in_use else ""
        return _release(s, Event("Normal", "ArtifactsDeleted", told), job)
    kept = _why_kept(s, job, state)
    if kept:
        return _release(s, Event("Warning", "ArtifactsRetained", f"{kept}; the bytes stay in the store"), job)
    assert s.meta.deleting is not None
    left = (s.meta.deleting + PATIENCE - s.now).total_seconds()
    return Plan(
        apply=() if job else (_cleanup(s, name, digests),),
        status=plain(msgspec.structs.replace(s.status, phase="Deleting")),
        delete=_workers(s),
        requeue_after=max(left, 1.0),
    )


def _why_kept(s: Snapshot, job: Manifest | None, state: str) -> str:
    if s.namespace_terminating:
        return "the namespace is being deleted"
    if state == "Failed":
        return "the store could not be cleaned"
    mine = [p for p in s.pods if job and p["metadata"].get("labels", {}).get("job-name") == job["metadata"]["name"]]
    held = pods.trouble(mine)
    if held and held.reason in ("SecretNotFound", "SecretKeyMissing", "ClaimNotFound"):
        return held.message
    assert s.meta.deleting is not None
    return "cleaning took more than 10 minutes" if s.now >= s.meta.deleting + PATIENCE else ""


def _cleanup(s: Snapshot, name: str, digests: set[str]) -> dict[str, Any]:
    return cleanup_job(
        name=name,
        model=s.meta.name,
        cleanup=CleanupInput(s.meta.namespace, s.spec.artifacts, tuple(sorted(digests))),
        image=s.platform.operator_image,
        pull_policy=s.platform.image_pull_policy,
    )


def _workers(s: Snapshot) -> tuple[Ref, ...]:
    """Optimization Jobs, so that none publishes behind the cleaner's back."""
    mine = [j for j in s.jobs if j["metadata"]["labels"].get(names.COMPONENT) == "optimize"]
    return tuple(ref(j) for j in mine if not pods.is_deleting(j))


def _release(s: Snapshot, event: Event | None, job: Manifest | None = None) -> Plan:
    return Plan(
        delete=(ref(job),) if job and not pods.is_deleting(job) else (),
        events=(event,) if event else (),
        finalizers=tuple(f for f in s.meta.finalizers if f != names.FINALIZER),
    )


def _state(job: Manifest | None) -> str:
    conditions = job.get("status", {}).get("conditions", []) if job else []
    return next((c["type"] for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"), "")
