"""Say what is the case: conditions, phase and figures of the OptimizedModel's status."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..api import conditions as c
from ..api import names
from ..api.conditions import Condition, ConditionStatus
from ..api.contract import Figures, StepProgress
from ..api.status import Failure, OptimizedModelStatus, Phase, RevisionSummary
from ..rollout import Decision, Seen
from . import serve, traffic
from .optimize import Work, stamp
from .revise import Target
from .types import Revision, Snapshot
from .validate import Refusal

MESSAGE = 1000
"""Longest message that is written."""
SUMMARIES = 64
"""Revisions that are listed: as many as the schema holds, more than are ever kept."""


@dataclass(frozen=True)
class Facts:
    """What the phases decided in this pass."""

    refusal: Refusal | None
    target: Target | None
    work: Work
    decision: Decision
    seen: dict[str, Seen]


def status(s: Snapshot, f: Facts) -> OptimizedModelStatus:
    """The whole status of this generation."""
    failure = _failure(s, f)
    conditions = c.merge(s.status.conditions, _conditions(s, f, failure), now=stamp(s.now))
    stable = f.seen.get(f.decision.stable, Seen())
    rollout = f.decision.rollout
    artifact, figures = f.work.revision.artifact, f.work.revision.figures
    return OptimizedModelStatus(
        observed_generation=s.meta.generation,
        phase=_phase(s, f, conditions),
        conditions=conditions,
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
    found = f.work.failure
    if found is None and f.decision.rollout and f.target and f.decision.rollout.candidate == f.target.hash:
        found = serve.failure(s, f.target.hash)
    last = s.status.last_failure
    if found is None:
        wanted = f.target.hash if f.target else s.status.revision
        return last if wanted == s.status.revision != f.decision.stable else None
    message = found.message[:MESSAGE]
    if last and (last.component, last.reason, last.message) == (found.component, found.reason, message):
        return last
    return Failure(found.component, found.reason, message, found.pod, found.exit_code, found.time or stamp(s.now))


def _conditions(s: Snapshot, f: Facts, failure: Failure | None) -> Iterator[Condition]:
    def say(type: str, status: ConditionStatus, reason: str, message: str = "") -> Condition:
        return Condition(type, status, reason, message[:MESSAGE], observed_generation=s.meta.generation)

    yield say(c.READY, *_ready(s, f))
    up = any(
        f.seen.get(h, Seen()).endpoints for h in f.decision.serve if h == f.decision.stable or f.decision.weights.get(h)
    )
    yield (
        say(c.AVAILABLE, "True", "Serving")
        if up
        else say(c.AVAILABLE, "False", "NoReadyPods", "no pod can take traffic")
    )
    yield say(c.SOURCE_READY, *_source(f))
    yield say(c.OPTIMIZED, *_optimized(s, f))
    yield say(c.QUALITY_PASSED, *_quality_passed(f))
    yield say(c.SERVING_READY, *_serving(f, failure))
    if s.spec.rollout.router is not None:
        yield say(c.ROUTE_READY, *_route(s, f))
    yield from (say(*x) for x in _abnormal(s, f, failure))


Said = tuple[ConditionStatus, str, str]


def _ready(s: Snapshot, f: Facts) -> Said:
    hash = f.target.hash if f.target else ""
    if f.refusal and f.refusal.terminal:
        return "False", f.refusal.reason, f.refusal.message
    if f.work.terminal and f.work.failure:
        return "False", f.work.failure.reason, f.work.failure.message
    settled = f.decision.rollout is None or f.decision.rollout.phase == "Retaining"
    if hash and f.decision.stable == hash and settled:
        if not f.seen.get(hash, Seen()).endpoints:
            return "False", "NoReadyPods", f"revision {hash} has no ready pod"
        if f.decision.weights and not _routed(s, f):
            return "False", "RouteNotAccepted", "the gateway has not accepted the routes"
        return "True", "Serving", f"revision {hash} takes all traffic and has answered"
    if f.refusal:
        return "False", f.refusal.reason, f.refusal.message
    return _not_yet(s, f, hash)


def _not_yet(s: Snapshot, f: Facts, hash: str) -> Said:
    if f.work.failure:
        return "False", f.work.failure.reason, f.work.failure.message
    if s.refused:
        return "False", "WriteRefused", f"the API server refused: {s.refused[0]}. It is tried again."
    if s.spec.suspend:
        return "False", "Suspended", "spec.suspend is true"
    if hash in f.decision.failed_revisions:
        text = f"revision {hash} was rolled back. Change the spec, or annotate {names.ACTION}: retry {hash}"
        return "False", "RolledBack", text
    if f.decision.rollout is not None and f.decision.rollout.stable:
        r = f.decision.rollout
        reason = "Paused" if r.phase == "Paused" else "RolloutInProgress"
        return "False", reason, f"{r.phase}: {r.message or f'revision {r.candidate} has {r.weight} %'}"
    if not f.work.deployable:
        return "False", "Optimizing", f"revision {hash} is being optimized"
    return "False", "Deploying", f"revision {hash} is starting"


def _routed(s: Snapshot, f: Facts) -> bool:
    state = traffic.route_state(s)
    return state.accepted and dict(state.weights) == dict(f.decision.weights)


def _source(f: Facts) -> Said:
    fetched = f.work.revision.artifact is not None or any(x.state in ("Done", "Cached") for x in f.work.steps[:1])
    if fetched:
        return "True", "Fetched", ""
    missed = any(x.state == "Failed" for x in f.work.steps[:1])
    if f.work.failure and (missed or f.work.failure.component == "pod"):
        return "False", f.work.failure.reason, f.work.failure.message
    return "Unknown", "NotFetched", ""


def _optimized(s: Snapshot, f: Facts) -> Said:
    if f.work.revision.artifact is not None or f.work.deployable:
        found = f.work.revision.search
        kept = found is not None and not found.winner
        return "True", "NoFeasibleRecipe" if kept else "Optimized", found.reason if found else ""
    if f.work.failure:
        return "False", f.work.failure.reason, f.work.failure.message
    if f.refusal:
        return "False", f.refusal.reason, f.refusal.message
    return "False", "Suspended" if s.spec.suspend else "Optimizing", ""


def _quality_passed(f: Facts) -> Said:
    if f.work.deployable:
        missed = ", ".join(gate.name for gate in f.work.revision.gates if gate.verdict != "Pass")
        if missed:
            return "False", "NoFeasibleRecipe", f"the baseline is kept, which does not clear {missed}"
        return "True", "GatesPassed" if f.work.revision.gates else "NoGates", ""
    if f.work.revision.phase == "Rejected" and f.work.failure:
        return "False", f.work.failure.reason, f.work.failure.message
    return "Unknown", "NotEvaluated", ""


def _serving(f: Facts, failure: Failure | None) -> Said:
    hash = f.target.hash if f.target else ""
    if f.seen.get(hash, Seen()).ready:
        return "True", "Answering", f"revision {hash} answers"
    if failure and f.work.deployable:
        return "False", failure.reason, failure.message
    if hash in f.decision.failed_revisions:
        return "False", "RolledBack", ""
    return "False", "Deploying" if f.work.deployable else "NotOptimized", ""


def _route(s: Snapshot, f: Facts) -> Said:
    if f.refusal and f.refusal.reason in ("RouterUnavailable", "HostnameConflict"):
        return "False", f.refusal.reason, f.refusal.message
    if not f.decision.weights:
        return "False", "NothingToRoute", "no revision may take traffic yet"
    if _routed(s, f):
        return "True", "Accepted", ""
    return "False", "RouteNotAccepted", "the gateway has not accepted the routes; see their status"


def _abnormal(s: Snapshot, f: Facts, failure: Failure | None) -> Iterator[tuple[str, ConditionStatus, str, str]]:
    if f.refusal and f.refusal.terminal:
        yield c.STALLED, "True", f.refusal.reason, f.refusal.message
    elif f.work.terminal and f.work.failure:
        yield c.STALLED, "True", f.work.failure.reason, f.work.failure.message
    elif f.decision.stalled:
        said = f"{failure.reason}: {failure.message}" if failure else f.decision.stalled[1]
        yield c.STALLED, "True", f.decision.stalled[0], said
    elif f.target and f.target.hash in f.decision.failed_revisions:
        yield (
            c.STALLED,
            "True",
            "RolledBack",
            f"revision {f.target.hash} was rolled back and is not tried again unless asked",
        )
    if s.spec.suspend:
        yield c.SUSPENDED, "True", "Suspended", "spec.suspend is true: no Job runs and no rollout begins"
    if f.target and f.target.hash in f.decision.failed_revisions:
        reason, text = f.decision.rolled_back or _before(s, c.ROLLED_BACK)
        yield c.ROLLED_BACK, "True", reason, text
    if s.refused:
        yield c.DEGRADED, "True", "WriteRefused", f"the API server refused: {'; '.join(s.refused)}"
    elif f.decision.stable and not f.seen.get(f.decision.stable, Seen()).endpoints:
        yield c.DEGRADED, "True", "NoReadyPods", f"stable revision {f.decision.stable} has no ready pod"
    limit = f.work.revision.artifact.max_batch_size if f.work.revision.artifact else 0
    if f.target and f.target.outdated:
        yield c.OUTDATED, "True", f.target.outdated.reason, f.target.outdated.message
    if limit and limit < s.spec.serving.batching.max_batch_size and f.work.deployable:
        text = f"answers depend on batch neighbours, so batches are limited to {limit}"
        yield c.BATCH_LIMITED, "True", "BatchVariant", text


def _before(s: Snapshot, type: str) -> tuple[str, str]:
    known = c.find(s.status.conditions, type)
    return (known.reason, known.message) if known else ("RolledBack", "")


_ROLLOUT_PHASES: dict[str, Phase] = {
    "Preparing": "Deploying",
    "Promoting": "Promoting",
    "RollingBack": "RollingBack",
    "Retaining": "Ready",
}


def _phase(s: Snapshot, f: Facts, conditions: tuple[Condition, ...]) -> Phase:
    true = {x.type for x in conditions if x.status == "True"}
    if c.READY in true:
        return "Ready"
    if c.SUSPENDED in true:
        return "Suspended"
    if c.STALLED in true:
        return "Failed"
    if f.decision.rollout is not None:
        return _ROLLOUT_PHASES.get(f.decision.rollout.phase, "Canary")
    if c.DEGRADED in true:
        return "Degraded"
    if f.target is None:
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
    return figures.cosine_mean
