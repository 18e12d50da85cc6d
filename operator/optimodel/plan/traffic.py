"""Move traffic: what the rollout machine sees of us, and the stable Service and the routes that follow from its decision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..api import names
from ..api.spec import Router
from ..api.status import RolloutStatus
from ..resources import pod as parts
from ..resources import routes
from ..resources.service import service
from ..rollout import Decision, Observed, RouteState, Seen, advance
from . import pods
from .optimize import ref
from .revise import Target
from .types import Manifest, Ref, Snapshot

MAX_ACTION = 512


def decide(
    s: Snapshot, seen: Mapping[str, Seen], target: Target | None, *, deployable: bool, lost: bool, handled: str
) -> Decision:
    """One step of the rollout machine. `seen` is what serves, `handled` is the action already dealt with; `lost` = the target's
    artifact went from the store and is made again."""
    stable, rollout = _there(s, seen)
    scaled = s.spec.serving.autoscaling
    fixed = s.spec.serving.replicas if s.spec.serving.replicas is not None else 1
    observed = Observed(
        candidate=target.hash if target else "",
        deployable=deployable,
        lost=lost,
        stable=stable,
        revisions=seen,
        route=route_state(s),
        replicas=scaled.min_replicas if scaled else fixed,
        max_replicas=scaled.max_replicas if scaled else max(fixed, 1),
        action=action(s),
        handled_action=handled,
        failed_revisions=s.status.failed_revisions,
    )
    return advance(observed, rollout, s.spec.rollout, s.now)


def _there(s: Snapshot, seen: Mapping[str, Seen]) -> tuple[str, RolloutStatus | None]:
    """The stable revision and the rollout, as far as they tell of revisions that exist or serve: a status that was restored or
    edited may tell of others, and traffic must not follow it there."""
    there = {"", *seen, *(r.spec.hash for r in s.revisions)}
    stable, rollout = s.status.stable_revision, s.status.rollout
    if rollout is not None and not {rollout.stable, rollout.candidate} <= there:
        rollout = None
    return stable if stable in there else "", rollout


def action(s: Snapshot) -> str:
    """What a person asks for, cut to what the status can hold."""
    return s.meta.annotations.get(names.ACTION, "")[:MAX_ACTION].strip()


def route_state(s: Snapshot) -> RouteState:
    """The wanted kinds of route, read back together."""
    found = [next((r for r in have if not pods.is_deleting(r)), None) for have in _wanted(s).values()]
    present = [r for r in found if r is not None]
    weights, named, accepted = routes.read(*present)
    return RouteState(weights, named, accepted and len(present) == len(found))


def _wanted(s: Snapshot) -> dict[str, tuple[Manifest, ...]]:
    """Kinds of route that the spec asks for, with those that exist."""
    have = {"HTTPRoute": s.http_routes, "GRPCRoute": s.grpc_routes}
    return {kind: have[kind] for kind in routes.kinds(s.spec.rollout.router)}


def stable_service(s: Snapshot, decision: Decision) -> tuple[dict[str, Any], ...]:
    """The Service under the object's own name. It turns with the last weight and not with the commit after it, so that
    proxies have followed when the object calls itself Ready."""
    r = decision.rollout
    revision = r.candidate if r and r.phase == "Promoting" and r.weight == 100 else decision.stable
    if not revision:
        return ()
    name, owner = s.meta.name, parts.owner(s.meta.name, s.meta.uid)
    return (
        service(name=name, namespace=s.meta.namespace, model=name, revision=revision, component="route", owner=owner),
    )


def wanted_routes(s: Snapshot, decision: Decision) -> tuple[dict[str, Any], ...]:
    """The routes at the decided weights."""
    router = s.spec.rollout.router
    return tuple(_routes(s, decision, router)) if router and decision.weights else ()


def _routes(s: Snapshot, decision: Decision, router: Router) -> Iterator[dict[str, Any]]:
    """A hostname that another object holds is not claimed: routes that exist stay where they are, and only weights move."""
    for kind, have in _wanted(s).items():
        if kind in s.missing_kinds or (s.route_conflict and not have):
            continue
        route = routes.route(
            kind,
            namespace=s.meta.namespace,
            model=s.meta.name,
            router=router,
            weights=decision.weights,
            named=decision.named,
            owner=parts.owner(s.meta.name, s.meta.uid),
        )
        if s.route_conflict:
            route["spec"] = {**have[0]["spec"], "rules": route["spec"]["rules"]}
        yield route


def surplus(s: Snapshot) -> tuple[Ref, ...]:
    """Routes that the spec does not ask for any more."""
    wanted = _wanted(s)
    have = [("HTTPRoute", s.http_routes), ("GRPCRoute", s.grpc_routes)]
    return tuple(ref(r) for kind, found in have if kind not in wanted for r in found if not pods.is_deleting(r))
