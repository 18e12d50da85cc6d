"""Builders and reader of the HTTPRoute and GRPCRoute of a model. Both are owned whole: their lists are atomic.

Responses do not name their revision: a response header per backend is an extended feature that gateways, Traefik among
them, do not offer, and one per rule cannot tell the backends of the weighted rule apart. Ask for a revision by header.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..api import names
from ..api.spec import ParentRef, Router
from .pod import metadata
from .service import GRPC_PORT, HTTP_PORT

API_VERSION = "gateway.networking.k8s.io/v1"
HEADER = "x-model-revision"
"""A request with this header goes to the revision of that hash, while the revision has a rule."""
_REF_DEFAULTS = {"group": "gateway.networking.k8s.io", "kind": "Gateway"}


def kinds(router: Router | None) -> tuple[str, ...]:
    """The kinds of route that a router asks for: by its hostnames, HTTP where it names none."""
    if router is None:
        return ()
    http = ("HTTPRoute",) if router.hostnames.http or not router.hostnames.grpc else ()
    return (*http, "GRPCRoute") if router.hostnames.grpc else http


def route(
    kind: str,
    *,
    namespace: str,
    model: str,
    router: Router,
    weights: Mapping[str, int],
    named: Iterable[str],
    owner: list[dict[str, Any]],
) -> dict[str, Any]:
    """The route of a kind: a header rule for every revision of `named`, then the rule that splits by `weights` (percent)."""
    http = kind == "HTTPRoute"
    port = HTTP_PORT if http else GRPC_PORT
    hostnames = router.hostnames.http if http else router.hostnames.grpc
    path = {"path": {"type": "PathPrefix", "value": "/"}} if http else {}
    rules: list[dict[str, Any]] = [
        {"matches": [path | _header(h)], "backendRefs": [_backend(model, h, port, 100)]} for h in sorted(named)
    ]
    rules.append(({"matches": [path]} if path else {}) | {"backendRefs": _split(model, weights, port)})
    spec: dict[str, Any] = {"parentRefs": [_parent(p) for p in router.parent_refs], "rules": rules}
    if hostnames:
        spec["hostnames"] = list(hostnames)
    about = metadata(model, namespace, names.labels(model, "route"), owner)
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": about, "spec": spec}


def read(*routes: Mapping[str, Any]) -> tuple[dict[str, int], frozenset[str], bool]:
    """What the routes of a model say: percent by hash, every revision named, and whether all gateways accepted this.

    Routes that disagree are not accepted. A backend that is none of the model's revisions counts under its own name.
    """
    found = [_rules(r) for r in routes]
    if not found:
        return {}, frozenset(), False
    weights, hashes = found[0]
    agreed = all(f == found[0] for f in found)
    return weights, hashes, agreed and all(accepted(r) for r in routes)


def accepted(route: Mapping[str, Any]) -> bool:
    """Whether every parent has accepted this very generation and resolved all that it refers to."""
    generation = route.get("metadata", {}).get("generation", 0)
    parents = route.get("spec", {}).get("parentRefs", [])
    states = route.get("status", {}).get("parents", [])
    return bool(parents) and all(
        any(_same(route, ref, state["parentRef"]) and _settled(state, generation) for state in states)
        for ref in parents
    )


def _settled(state: Mapping[str, Any], generation: int) -> bool:
    """A parent's state says True to both questions, for this generation."""
    good = {
        c["type"]
        for c in state.get("conditions", [])
        if c.get("status") == "True" and c.get("observedGeneration", 0) >= generation
    }
    return {"Accepted", "ResolvedRefs"} <= good


def _same(route: Mapping[str, Any], one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    defaults = _REF_DEFAULTS | {"namespace": route.get("metadata", {}).get("namespace", "")}
    return defaults | dict(one) == defaults | dict(other)


def _rules(route: Mapping[str, Any]) -> tuple[dict[str, int], frozenset[str]]:
    prefix = names.revision(route["metadata"].get("labels", {}).get(names.MODEL, ""), "")
    weights: dict[str, int] = {}
    hashes: set[str] = set()
    for rule in route.get("spec", {}).get("rules", []):
        shares = {b["name"].removeprefix(prefix): b.get("weight", 1) for b in rule.get("backendRefs", [])}
        hashes |= shares.keys()
        if not any(m.get("headers") for m in rule.get("matches", [])):
            weights |= {h: w for h, w in shares.items() if w}
    return weights, frozenset(hashes)


def _header(hash: str) -> dict[str, Any]:
    return {"headers": [{"type": "Exact", "name": HEADER, "value": hash}]}


def _backend(model: str, hash: str, port: int, weight: int) -> dict[str, Any]:
    return {"group": "", "kind": "Service", "name": names.revision(model, hash), "port": port, "weight": weight}


def _split(model: str, weights: Mapping[str, int], port: int) -> list[dict[str, Any]]:
    return [_backend(model, h, port, w) for h, w in sorted(weights.items()) if w]


def _parent(ref: ParentRef) -> dict[str, Any]:
    found = _REF_DEFAULTS | {"name": ref.name}
    if ref.namespace:
        found["namespace"] = ref.namespace
    if ref.section_name:
        found["sectionName"] = ref.section_name
    return found
