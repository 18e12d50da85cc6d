"""Say what is the case: phase, figures and revisions of the OptimizedModel's status."""

from __future__ import annotations

from ..api import conditions as c
from ..api import names
from ..api.conditions import Condition
from ..api.contract import Figures, StepProgress
from ..api.status import Failure, OptimizedModelStatus, Phase, RevisionSummary
from ..rollout import Seen
from . import serve, writes
from .attempts import stamp
from .conditions import MESSAGE, Facts, conditions
from .types import Revision, Snapshot

SUMMARIES = 64
"""Revisions that are listed: as many as the schema holds, more than are ever kept."""


def status(s: Snapshot, f: Facts) -> OptimizedModelStatus:
    """The whole status of this generation."""
    failure = _failure(s, f)
    said = c.merge(s.status.conditions, conditions(s, f, failure), now=stamp(s.now))
    stable = f.seen.get(f.decision.stable, Seen())
    rollout = f.decision.rollout
    artifact, figures = f.work.revision.artifact, f.work.revision.figures
    return OptimizedModelStatus(
        observed_generation=s.meta.generation,
        phase=_phase(s, f, said),
        conditions=said,
        revision=f.target.hash if f.target else "",
        stable_revision=f.decision.stable,
        failed_revisions=f.decision.failed_revisions,
        attempt=f.work.attempt,
        steps=f.work.steps or _pending(s),
        gates=f.work.revision.gates,
        figures=figures,
        search=f.work.revision.search,
        size=_size(artifact.source_weights_bytes, artifact.weights_bytes) if artifact else "",
        quality=_quality(figures),
        canary=f"{rollout.weight}%" if rollout and rollout.stable else "",
        revisions=_summaries(s, f),
        rollout=rollout,
        handled_action=f.decision.handled_action,
        replicas=stable.endpoints,
        selector=_selector(s, f.decision.stable),
        endpoint=_endpoint(s, f.decision.stable),
        last_failure=failure,
    )


def _failure(s: Snapshot, f: Facts) -> Failure | None:
    """What went wrong last. It keeps its time while it stays the same, and goes once this generation serves or wants another
    revision."""
    found = f.work.failure or writes.invalid(s)
    if found is None and f.decision.rollout and f.target and f.decision.rollout.candidate == f.target.hash:
        found = serve.failure(s, f.target.hash)
    if found is None and f.replacing:
        found = serve.failure(s, f.decision.stable)
    last = s.status.last_failure
    if found is None:
        wanted = f.target.hash if f.target else s.status.revision
        return last if wanted == s.status.revision != f.decision.stable else None
    message = found.message[:MESSAGE]
    if last and (last.component, last.reason, last.message) == (found.component, found.reason, message):
        return last
    return Failure(found.component, found.reason, message, found.pod, found.exit_code, found.time or stamp(s.now))


_ROLLOUT_PHASES: dict[str, Phase] = {
    "Preparing": "Deploying",
    "Promoting": "Promoting",
    "RollingBack": "RollingBack",
}


def _phase(s: Snapshot, f: Facts, conditions: tuple[Condition, ...]) -> Phase:
    true = {x.type for x in conditions if x.status == "True"}
    if c.READY in true:
        return "Ready"
    if c.SUSPENDED in true:
        return "Suspended"
    if c.STALLED in true:
        return "Failed"
    if f.decision.rollout is not None and f.decision.rollout.phase != "Retaining":
        return _ROLLOUT_PHASES.get(f.decision.rollout.phase, "Canary")
    if c.DEGRADED in true:
        return "Degraded"
    if f.target is None or f.refusal:
        return "Pending"
    return "Deploying" if f.work.deployable else "Optimizing"


def _pending(s: Snapshot) -> tuple[StepProgress, ...]:
    return tuple(StepProgress(x.name, "Pending") for x in s.spec.optimization.steps)


def _summaries(s: Snapshot, f: Facts) -> tuple[RevisionSummary, ...]:
    newest = sorted(s.revisions, key=lambda r: r.spec.number, reverse=True)[:SUMMARIES]
    return tuple(_summary(r, f) for r in newest)


def _summary(r: Revision, f: Facts) -> RevisionSummary:
    hash, rollout = r.spec.hash, f.decision.rollout
    weight = f.decision.weights.get(hash, 100 if hash == f.decision.stable and not f.decision.weights else 0)
    known = RevisionSummary(r.name, hash, "Retained", weight, f.seen.get(hash, Seen()).endpoints)
    if hash == f.decision.stable:
        return _as(known, "Stable")
    if hash in f.decision.failed_revisions or r.status.phase == "Rejected":
        return _as(known, "Failed")
    if rollout and hash == rollout.candidate:
        return _as(known, "Candidate")
    if hash in f.seen:
        return _as(known, "Retiring")
    if f.target and hash == f.target.hash:
        return _as(known, "Deploying" if f.work.deployable else "Optimizing")
    return known


def _as(known: RevisionSummary, state: str) -> RevisionSummary:
    return RevisionSummary(known.name, known.hash, state, known.weight, known.ready_replicas)  # type: ignore[arg-type]


def _selector(s: Snapshot, stable: str) -> str:
    found = {names.MODEL: s.meta.name, names.COMPONENT: "serve", names.REVISION: stable}
    return ",".join(f"{k}={v}" for k, v in found.items()) if stable else ""


def _endpoint(s: Snapshot, stable: str) -> str:
    return f"http://{s.meta.name}.{s.meta.namespace}.svc:8000/v2/models/{s.meta.name}" if stable else ""


def _size(before: int, after: int) -> str:
    return f"{_mib(before)}->{_mib(after)}"


def _mib(number: int) -> str:
    return f"{number / 2**20:.1f}Mi" if number < 2**30 else f"{number / 2**30:.1f}Gi"


def _quality(figures: Figures | None) -> str:
    if figures is None:
        return ""
    if figures.accuracy and figures.baseline_accuracy:
        return f"{float(figures.accuracy) - float(figures.baseline_accuracy):+.4f}"
    if figures.perplexity and figures.baseline_perplexity:
        return f"x{float(figures.perplexity) / float(figures.baseline_perplexity):.4f}"
    return figures.cosine_mean
