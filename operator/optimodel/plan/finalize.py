"""The object is going: remove its artifacts if it asks for that, and never stand in the way for long."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec

from ..api import names
from ..api.contract import JOB_ENV, CleanupInput
from ..api.struct import plain
from ..resources.job import cleanup_job
from . import pods, work
from .optimize import ref
from .types import Event, Manifest, Plan, Ref, Snapshot

PATIENCE = timedelta(minutes=10)
"""Longest time the finalizer stays."""


def wanted(s: Snapshot) -> bool | None:
    """Whether a living object is to have our finalizer, if that must change: it is there only while the policy is Delete."""
    ours, want = names.FINALIZER in s.meta.finalizers, s.spec.artifacts.deletion_policy == "Delete"
    return None if ours == want else want


def finalize(s: Snapshot) -> Plan:
    """Plans the end. Children go by their owner references; only the artifacts need us."""
    if names.FINALIZER not in s.meta.finalizers:
        return Plan()
    digests = {r.status.artifact.digest for r in s.revisions if r.status.artifact} - s.digests_in_use
    name = names.cleanup(s.meta.name, s.meta.uid)
    job = next((j for j in s.jobs if j["metadata"]["name"] == name), None)
    if s.spec.artifacts.deletion_policy != "Delete":
        return _release(s, None, job)
    state, stays = _state(job), "; ".join(_stays(s))
    if not digests:
        return _release(s, Event("Normal", "ArtifactsRetained", stays) if stays else None, job)
    if state == "Complete":
        told = "the artifacts of the kept revisions were removed from the store"
        return _release(s, Event("Normal", "ArtifactsDeleted", f"{told}; {stays}" if stays else told), job)
    if job and not pods.is_deleting(job) and _told(job) & s.digests_in_use:
        return Plan(delete=(ref(job),), requeue_after=1.0)
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


def _stays(s: Snapshot) -> Iterator[str]:
    """What of the object stays in the store although it asked for Delete."""
    if s.digests_in_use:
        yield f"{len(s.digests_in_use)} stay, since other models of the namespace name the same bytes"
    if unfinished := sorted(r.spec.hash for r in s.revisions if not r.status.artifact):
        yield f"what the steps of revision {', '.join(unfinished)} made stays, since it had no result yet"


def _told(job: Manifest) -> frozenset[str]:
    """The digests that a cleanup Job removes: another model may have come to name one since."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    asked = next(env["value"] for env in container["env"] if env["name"] == JOB_ENV)
    return frozenset(msgspec.json.decode(asked, type=CleanupInput).digests)


def _why_kept(s: Snapshot, job: Manifest | None, state: str) -> str:
    if s.namespace_terminating:
        return "the namespace is being deleted"
    mine = [p for p in s.pods if job and p["metadata"].get("labels", {}).get("job-name") == job["metadata"]["name"]]
    if state == "Failed":
        said = next((left for pod in mine if (left := work.left(pod, "clean"))), None)
        return "the store could not be cleaned" + (f" ({said.reason}: {said.message.rstrip('.')})" if said else "")
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
        finalizer=False,
    )


def _state(job: Manifest | None) -> str:
    conditions = job.get("status", {}).get("conditions", []) if job else []
    return next((c["type"] for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"), "")
