"""Say what is the case, one condition at a time: each with what to do next where something is to be done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..api import conditions as c
from ..api import names
from ..api.conditions import Condition, ConditionStatus
from ..api.status import Failure
from ..rollout import Decision, Seen
from . import losses, serve, traffic, writes
from .optimize import Work
from .revise import Target
from .types import Snapshot
from .validate import Refusal

MESSAGE = 1000
"""Longest message that is written."""


@dataclass(frozen=True)
class Facts:
    """What the phases decided in this pass."""

    refusal: Refusal | None
    target: Target | None
    work: Work
    decision: Decision
    seen: dict[str, Seen]
    replacing: str = ""
    """What of the stable revision's pods is still of an earlier template."""


def conditions(s: Snapshot, f: Facts, failure: Failure | None) -> Iterator[Condition]:
    """Every condition of this generation; those that tell of something abnormal only while they are True."""

    def say(type: str, status: ConditionStatus, reason: str, message: str) -> Condition:
        return Condition(type, status, reason, message[:MESSAGE], observed_generation=s.meta.generation)

    yield say(c.READY, *_ready(s, f, failure))
    yield say(c.AVAILABLE, *_available(f))
    yield say(c.SOURCE_READY, *_source(f))
    yield say(c.OPTIMIZED, *_optimized(s, f))
    yield say(c.QUALITY_PASSED, *_quality_passed(f))
    yield say(c.SERVING_READY, *_serving(f, failure))
    if s.spec.rollout.router is not None:
        yield say(c.ROUTE_READY, *_route(s, f))
    yield from (say(*x) for x in _abnormal(s, f, failure))


Said = tuple[ConditionStatus, str, str]


def _ready(s: Snapshot, f: Facts, failure: Failure | None) -> Said:
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
        if told := _write_refused(s):
            return told
        if f.replacing:
            return _replacing(f, failure)
        return "True", "Serving", f"revision {hash} takes all traffic and has answered"
    if f.refusal:
        return "False", f.refusal.reason, f.refusal.message
    return _not_yet(s, f, hash, failure)


def _available(f: Facts) -> Said:
    weighty = [h for h in f.decision.serve if h == f.decision.stable or f.decision.weights.get(h)]
    up = [h for h in weighty if f.seen.get(h, Seen()).endpoints]
    if up:
        return "True", "Serving", f"traffic goes to revision {' and '.join(sorted(up))}"
    return "False", "NoReadyPods", "no pod can take traffic"


def _replacing(f: Facts, failure: Failure | None) -> Said:
    if failure:
        return "False", failure.reason, failure.message
    return "False", "ReplacingPods", f.replacing


def _write_refused(s: Snapshot) -> Said | None:
    if found := writes.invalid(s):
        return "False", found.reason, found.message
    words = writes.awaited(s)
    return ("False", "WriteRefused", f"the API server refused: {words[0]}. It is tried again.") if words else None


def _not_yet(s: Snapshot, f: Facts, hash: str, failure: Failure | None) -> Said:
    if f.work.failure:
        return "False", f.work.failure.reason, f.work.failure.message
    if told := _write_refused(s):
        return told
    if s.spec.suspend:
        return "False", "Suspended", "spec.suspend is true"
    if hash in f.decision.failed_revisions:
        text = f"revision {hash} was rolled back. Change the spec, or annotate {names.ACTION}: retry {hash}"
        return "False", "RolledBack", text
    r = f.decision.rollout
    if r is not None and r.stable and (r.phase != "Retaining" or r.candidate == hash):
        reason = "Paused" if r.phase == "Paused" else "RolloutInProgress"
        text = f"{r.phase}: {r.message or f'revision {r.candidate} has {r.weight} %'}"
        held = serve.failure(s, r.candidate)
        return "False", reason, f"{text}; {held.reason}: {held.message}" if held else text
    if f.work.queued:
        return "False", "Queued", f.work.queued
    if f.work.lost:
        return "False", losses.MISSING, _remade(f)
    if not f.work.deployable:
        return "False", "Optimizing", f"revision {hash}: {_progress(f)}"
    if failure:
        return "False", failure.reason, failure.message
    return "False", "Deploying", f"revision {hash} is starting"


def _routed(s: Snapshot, f: Facts) -> bool:
    state = traffic.route_state(s)
    return state.accepted and dict(state.weights) == dict(f.decision.weights)


def _source(f: Facts) -> Said:
    fetched = f.work.revision.artifact is not None or any(x.state in ("Done", "Cached") for x in f.work.steps[:1])
    if fetched:
        return "True", "Fetched", "fetched, and of a format and architecture that can be optimized"
    missed = any(x.state == "Failed" for x in f.work.steps[:1])
    if f.work.failure and (missed or f.work.failure.component == "pod"):
        return "False", f.work.failure.reason, f.work.failure.message
    return "Unknown", "NotFetched", "the Job fetches it before anything else"


def _optimized(s: Snapshot, f: Facts) -> Said:
    if (f.work.revision.artifact is not None and not f.work.lost) or f.work.deployable:
        return _found(f)
    if f.work.failure:
        return "False", f.work.failure.reason, f.work.failure.message
    if f.refusal:
        return "False", f.refusal.reason, f.refusal.message
    if f.work.queued:
        return "False", "Queued", f.work.queued
    if s.spec.suspend:
        return "False", "Suspended", "no Job runs while spec.suspend is true"
    if f.work.lost:
        return "False", losses.MISSING, _remade(f)
    return "False", "Optimizing", _progress(f)


def _found(f: Facts) -> Said:
    artifact, search = f.work.revision.artifact, f.work.revision.search
    kept = search is not None and not search.winner
    text = search.reason if search else f"artifact {artifact.digest} is in the store" if artifact else "in the store"
    return "True", "NoFeasibleRecipe" if kept else "Optimized", text


def _progress(f: Facts) -> str:
    """The step at hand, of how many."""
    for number, step in enumerate(f.work.steps, 1):
        if step.state not in ("Done", "Cached"):
            return f"step {step.name} ({number} of {len(f.work.steps)}) is {step.state.lower()}"
    return "its Job is about to start" if not f.work.steps else "its steps are done"


def _remade(f: Facts) -> str:
    return f"the artifact went from the store and is made again: {_progress(f)}"


def _quality_passed(f: Facts) -> Said:
    if f.work.deployable:
        count = len(f.work.revision.gates)
        missed = ", ".join(gate.name for gate in f.work.revision.gates if gate.verdict != "Pass")
        if missed:
            return "False", "NoFeasibleRecipe", f"the baseline is kept, which does not clear {missed}"
        if not count:
            return "True", "NoGates", "nothing is asked of the result; spec.optimization.gates can"
        return "True", "GatesPassed", "the gate passed" if count == 1 else f"all {count} gates passed"
    if f.work.revision.phase == "Rejected" and f.work.failure:
        return "False", f.work.failure.reason, f.work.failure.message
    return "Unknown", "NotEvaluated", "measured after the last step"


def _serving(f: Facts, failure: Failure | None) -> Said:
    hash = f.target.hash if f.target else ""
    if f.seen.get(hash, Seen()).ready:
        return "True", "Answering", f"revision {hash} answers"
    if failure and f.work.deployable:
        return "False", failure.reason, failure.message
    if hash in f.decision.failed_revisions:
        return "False", "RolledBack", f"revision {hash} was taken back; condition RolledBack says why"
    if not f.work.deployable:
        return "False", "NotOptimized", "there is no artifact to serve yet"
    return "False", "Deploying", f"revision {hash} has not answered yet"


def _route(s: Snapshot, f: Facts) -> Said:
    if f.refusal and f.refusal.reason in ("RouterUnavailable", "HostnameConflict"):
        return "False", f.refusal.reason, f.refusal.message
    if not f.decision.weights:
        return "False", "NothingToRoute", "no revision may take traffic yet"
    if _routed(s, f):
        return "True", "Accepted", "the gateway splits traffic as asked"
    return "False", "RouteNotAccepted", "the gateway has not accepted the routes; see their status"


def _abnormal(s: Snapshot, f: Facts, failure: Failure | None) -> Iterator[tuple[str, ConditionStatus, str, str]]:
    if f.refusal and f.refusal.terminal:
        yield c.STALLED, "True", f.refusal.reason, f.refusal.message
    elif f.work.terminal and f.work.failure:
        yield c.STALLED, "True", f.work.failure.reason, f.work.failure.message
    elif found := writes.invalid(s):
        yield c.STALLED, "True", found.reason, found.message
    elif f.decision.stalled:
        said = f"{failure.reason}: {failure.message}" if failure else f.decision.stalled[1]
        yield c.STALLED, "True", f.decision.stalled[0], said
    elif f.target and f.target.hash in f.decision.failed_revisions:
        text = f"revision {f.target.hash} was rolled back and is not tried again unless asked"
        yield c.STALLED, "True", "RolledBack", text
    if s.spec.suspend:
        yield c.SUSPENDED, "True", "Suspended", "spec.suspend is true: no Job runs and no rollout begins"
    if f.target and f.target.hash in f.decision.failed_revisions:
        reason, text = f.decision.rolled_back or _before(s, c.ROLLED_BACK)
        yield c.ROLLED_BACK, "True", reason, text
    if words := writes.awaited(s):
        yield c.DEGRADED, "True", "WriteRefused", f"the API server refused: {'; '.join(words)}"
    elif said := _stable_lost(s, f):
        yield c.DEGRADED, "True", losses.MISSING, said
    elif f.decision.stable and not f.seen.get(f.decision.stable, Seen()).endpoints:
        yield c.DEGRADED, "True", "NoReadyPods", f"stable revision {f.decision.stable} has no ready pod"
    limit = f.work.revision.artifact.max_batch_size if f.work.revision.artifact else 0
    if f.target and f.target.outdated:
        yield c.OUTDATED, "True", f.target.outdated.reason, f.target.outdated.message
    if limit and limit < s.spec.serving.batching.max_batch_size and f.work.deployable:
        text = f"answers depend on batch neighbours, so batches are limited to {limit}"
        yield c.BATCH_LIMITED, "True", "BatchVariant", text


def _stable_lost(s: Snapshot, f: Facts) -> str:
    """What to do where the bytes of the stable revision went while the spec asks for another: only what it asks for is made."""
    hash, r = f.decision.stable, f.decision.rollout
    found = serve.failure(s, hash) if f.target and f.target.hash != hash else None
    if found is None or found.reason != losses.MISSING:
        return ""
    forward = r is not None and r.stable == hash and r.phase != "RollingBack"
    onward = f", or annotate {names.ACTION}: promote {r.candidate}" if r and forward else ""
    text = f"pods of stable revision {hash} cannot start: {found.message}"
    return f"{text} It is made again once the spec asks for it: set the spec back to it{onward}"


def _before(s: Snapshot, type: str) -> tuple[str, str]:
    known = c.find(s.status.conditions, type)
    return (known.reason, known.message) if known else ("RolledBack", "it was rolled back before")
