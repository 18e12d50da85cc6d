"""Snapshot → Plan: the phases in their order. Pure; the same snapshot always gives the same plan."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from ..api import names
from ..api.status import Failure, ModelRevisionStatus
from ..api.struct import plain
from ..resources import pod as parts
from ..resources.revision import model_revision
from . import fence, finalize, losses, report, serve, traffic, writes
from .conditions import Facts
from .optimize import Work, idle, optimize
from .revise import Target, asked, target
from .types import Event, Plan, Ref, Revision, Snapshot
from .validate import Refusal, refuse


def decide(s: Snapshot) -> Plan:
    """Everything to be done for one OptimizedModel now."""
    if s.meta.deleting is not None:
        return finalize.finalize(s)
    wanted = target(s)
    s = asked(s, wanted)
    refusal = refuse(s, wanted)
    action = traffic.action(s)
    gone = _gone(s, wanted)
    retry = _retries(s, wanted, action, gone)
    hindered = _hindered(s, refusal) if retry else ""
    work = _work(s, wanted, refusal, retry=retry and not hindered, gone=gone)
    if hindered:
        said = Event("Warning", "ActionRefused", f"{action!r}: {hindered}")
        work = dataclasses.replace(work, events=(*work.events, said))
    handled = action if retry else s.status.handled_action
    deployable = work.deployable and refusal is None and not s.spec.suspend
    seen = serve.observe(s)
    asks = wanted if refusal is None else None
    decision = traffic.decide(s, seen, asks, deployable=deployable, lost=work.lost, handled=handled)
    return _plan(s, Facts(refusal, wanted, work, decision, seen))


def _retries(s: Snapshot, wanted: Target | None, action: str, gone: Failure | None) -> bool:
    """Whether a person asks for another attempt at optimizing this revision. (Retrying a rollout is the machine's.)"""
    if wanted is None or action == s.status.handled_action or action.split()[:2] != ["retry", wanted.hash]:
        return False
    last = s.status.attempt
    waits = last is not None and last.revision == wanted.hash and bool(last.failed or last.retry_at)
    judged = wanted.revision.status.phase if wanted.revision else ""
    return waits or judged == "Rejected" or (judged == "Optimized" and gone is not None)


def _hindered(s: Snapshot, refusal: Refusal | None) -> str:
    """Why nothing can be tried now."""
    if s.spec.suspend:
        return "spec.suspend is true: set it to false, then ask again"
    return f"nothing is tried while {refusal.reason} holds; mend that, then ask again" if refusal else ""


def _gone(s: Snapshot, wanted: Target | None) -> Failure | None:
    """What the pods say, if the wanted revision's artifact went from the store after it was published."""
    found = serve.failure(s, wanted.hash) if wanted else None
    return found if found and found.reason == losses.MISSING else None


def _work(s: Snapshot, wanted: Target | None, refusal: Refusal | None, *, retry: bool, gone: Failure | None) -> Work:
    if wanted is None or refusal is not None:
        known = wanted.revision.status if wanted and wanted.revision else ModelRevisionStatus()
        return idle(s, wanted, known)
    return optimize(s, wanted, retry=retry, gone=gone)


def _plan(s: Snapshot, f: Facts) -> Plan:
    decision, work = f.decision, f.work
    serving = serve.serve(s, decision.serve, decision.min_replicas, stable=decision.stable)
    f = dataclasses.replace(f, replacing=serve.replacing(s, serving, decision.stable))
    status = plain(report.status(s, f))
    written = {names.revision(s.meta.name, f.target.hash): work.write} if work.write and f.target else {}
    return Plan(
        handover=serving.handover,
        apply=(*_revision(s, f), *fence.wanted(s), *work.apply, *serving.apply, *traffic.stable_service(s, decision)),
        revision_status={k: plain(v) for k, v in written.items()},
        status=status,
        routes=traffic.wanted_routes(s, decision),
        delete=(*work.delete, *traffic.surplus(s), *serving.delete, *_history(s, f), *fence.surplus(s)),
        events=(*(Event(e.type, e.reason, e.message) for e in decision.events), *work.events, *writes.news(s)),
        finalizer=finalize.wanted(s),
        probes=serving.probes,
        progress=work.progress,
        complaints=work.complaints,
        requeue_after=_soonest((work.requeue_after, decision.requeue_after, _look_again(f.refusal))),
    )


def _revision(s: Snapshot, f: Facts) -> Iterable[dict[str, Any]]:
    """The target's ModelRevision, made once: it is immutable."""
    if f.target is None or f.target.revision is not None or f.refusal is not None:
        return ()
    return (model_revision(s.meta.namespace, f.target.spec, parts.owner(s.meta.name, s.meta.uid)),)


def _history(s: Snapshot, f: Facts) -> Iterable[Ref]:
    """Revisions beyond the limit: those without a result first, then the oldest; never one that is wanted, served, or still going."""
    busy = {f.target.hash if f.target else "", *f.decision.serve, *f.seen}
    idle = sorted((r for r in s.revisions if r.spec.hash not in busy), key=_worth, reverse=True)
    surplus = idle[s.spec.rollout.revision_history_limit :]
    return tuple(Ref(names.API_VERSION, "ModelRevision", s.meta.namespace, r.name, r.uid) for r in surplus)


def _worth(r: Revision) -> tuple[bool, int]:
    return r.status.phase == "Optimized", r.spec.number


def _look_again(refusal: Refusal | None) -> float | None:
    """What the world may mend is looked at again now and then, where no event of ours tells."""
    return 30.0 if refusal and not refusal.terminal else None


def _soonest(times: Iterable[float | None]) -> float | None:
    return min((t for t in times if t is not None), default=None)
