"""Store → Snapshot: everything observed of one OptimizedModel, gathered at one moment."""

from __future__ import annotations

import posixpath
from collections.abc import Hashable, Iterable
from datetime import datetime

import msgspec

from .api.spec import ModelRevisionSpec, OptimizedModelSpec, RecipeSpec, TritonRuntimeSpec
from .api.status import ModelRevisionStatus, OptimizedModelStatus
from .machinery.store import Obj, Store
from .plan.types import Meta, Platform, Revision, Snapshot

MODEL = "OptimizedModel"
TERMINATING = "Terminating"
"""Fact by namespace name: the API server refused a write because the namespace is going."""
MISSING = "Missing"
"""Fact by kind: this cluster does not have it."""
REFUSED = "Refused"
"""Fact by the object's uid: writes of its last plan that the API server refused, each a `Refused`."""
PROBE = "Probe"
"""Fact by pod uid: `ProbeResult`."""
PROGRESS = "Progress"
"""Fact by pod uid: `Progress`."""

COMPLAINT = "Complaint"
"""Fact by uid of a Job: why its controller makes no pod, in the API server's words."""


def by_hostname(kind: str, obj: Obj) -> Iterable[Hashable]:
    """Index: OptimizedModels by (protocol, hostname, Gateway) of their router; one that names no hostname takes every HTTP
    request, ("http", "").

    A wildcard meets no other name: of hostnames that overlap the gateway follows the longer, so each has requests of its own.
    """
    router = obj.get("spec", {}).get("rollout", {}).get("router") if kind == MODEL else None
    if not router:
        return ()
    named = [(protocol, name) for protocol, found in (router.get("hostnames") or {}).items() for name in found or ()]
    gateways = {gateway for gateway, _section in _listeners(obj)}
    return [(*at, gateway) for at in named or [("http", "")] for gateway in gateways]


def by_digest(kind: str, obj: Obj) -> Iterable[Hashable]:
    """Index: ModelRevisions by (namespace, digest) of their artifact."""
    if kind != "ModelRevision":
        return ()
    digest = ((obj.get("status") or {}).get("artifact") or {}).get("digest")
    return [(obj["metadata"]["namespace"], digest)] if digest else ()


def take(store: Store, namespace: str, name: str, platform: Platform, now: datetime) -> Snapshot | None:
    """The snapshot of an object; None if there is no such object.

    Raises:
        msgspec.ValidationError: the object does not fit the types (it was stored under another schema).
    """
    raw = store.get(MODEL, namespace, name)
    if raw is None:
        return None
    meta, spec = _meta(raw), msgspec.convert(raw["spec"], OptimizedModelSpec)

    def owned(kind: str) -> tuple[Obj, ...]:
        return tuple(store.owned(kind, namespace, name))

    pods, jobs = owned("Pod"), owned("Job")
    uids = [p["metadata"]["uid"] for p in pods]
    return Snapshot(
        now=now,
        meta=meta,
        spec=spec,
        status=msgspec.convert(raw.get("status") or {}, OptimizedModelStatus),
        runtime=_runtime(store, namespace, spec),
        recipe=_recipe(store, namespace, spec),
        platform=platform,
        revisions=tuple(_revision(r) for r in owned("ModelRevision")),
        jobs=jobs,
        pods=pods,
        deployments=owned("Deployment"),
        services=owned("Service"),
        autoscalers=owned("HorizontalPodAutoscaler"),
        http_routes=owned("HTTPRoute"),
        grpc_routes=owned("GRPCRoute"),
        network_policies=owned("NetworkPolicy"),
        probes={u: found for u in uids if (found := store.fact(PROBE, u)) is not None},
        progress={u: found for u in uids if (found := store.fact(PROGRESS, u)) is not None},
        complaints={u: said for j in jobs if (said := store.fact(COMPLAINT, u := j["metadata"]["uid"]))},
        refused=store.fact(REFUSED, meta.uid) or (),
        namespace_terminating=bool(store.fact(TERMINATING, namespace)),
        digests_in_use=_in_use(store, namespace, name) if meta.deleting else frozenset(),
        route_conflict=_conflict(store, raw),
        missing_kinds=frozenset(k for k in ("HTTPRoute", "GRPCRoute") if store.fact(MISSING, k)),
    )


def _meta(raw: Obj) -> Meta:
    m = raw["metadata"]
    deleting = m.get("deletionTimestamp")
    return Meta(
        namespace=m["namespace"],
        name=m["name"],
        uid=m["uid"],
        generation=int(m["generation"]),
        resource_version=m["resourceVersion"],
        deleting=datetime.fromisoformat(deleting) if deleting else None,
        finalizers=tuple(m.get("finalizers") or ()),
        annotations=m.get("annotations") or {},
    )


def _revision(raw: Obj) -> Revision:
    m = raw["metadata"]
    return Revision(
        name=m["name"],
        uid=m["uid"],
        generation=int(m.get("generation", 1)),
        created=m.get("creationTimestamp", ""),
        spec=msgspec.convert(raw["spec"], ModelRevisionSpec),
        status=msgspec.convert(raw.get("status") or {}, ModelRevisionStatus),
    )


def shared(kind: str, namespace: str, name: str) -> tuple[str, str, str]:
    """Where an object of `namespace` finds the runtime or recipe that it names."""
    return kind, "" if kind.startswith("Cluster") else namespace, name


def _runtime(store: Store, namespace: str, spec: OptimizedModelSpec) -> TritonRuntimeSpec | None:
    ref = spec.serving.runtime_ref
    found = store.get(*shared(ref.kind, namespace, ref.name))
    return msgspec.convert(found["spec"], TritonRuntimeSpec) if found else None


def _recipe(store: Store, namespace: str, spec: OptimizedModelSpec) -> RecipeSpec | None:
    ref = spec.optimization.recipe_ref
    found = store.get(*shared(ref.kind, namespace, ref.name)) if ref else None
    return msgspec.convert(found["spec"], RecipeSpec) if found else None


def _in_use(store: Store, namespace: str, name: str) -> frozenset[str]:
    """Artifact digests of ours that revisions of other models of the namespace name too, in the same store. Models that are
    removing theirs do not count: else two that share a digest and go together would each leave it to the other."""
    ours = _place(store.get(MODEL, namespace, name) or {})

    def stays(model: str) -> bool:
        raw = store.get(MODEL, namespace, model)
        if raw is None:
            return True
        removes = raw["spec"]["artifacts"].get("deletionPolicy") == "Delete"
        return _place(raw) == ours and not (removes and "deletionTimestamp" in raw["metadata"])

    def used(at: Hashable) -> bool:
        sharers = (store.get(*each) for each in store.by("digest", at))
        return any(r and r["spec"]["model"] != name and stays(r["spec"]["model"]) for r in sharers)

    found = ((r.get("status") or {}).get("artifact") or {} for r in store.owned("ModelRevision", namespace, name))
    return frozenset(a["digest"] for a in found if "digest" in a and used((namespace, a["digest"])))


def _place(raw: Obj) -> tuple[str, str]:
    """Where a model's artifacts lie: a claim and a path on it, or a URL. Ways to write the same place are equal."""
    artifacts = raw.get("spec", {}).get("artifacts", {})
    claim = artifacts.get("pvc") or {}
    return claim.get("claimName", ""), posixpath.normpath(
        claim.get("path") or (artifacts.get("s3") or {}).get("url", "")
    )


def _conflict(store: Store, raw: Obj) -> str:
    """An older object with one of our hostnames, or likewise with none, on one of our Gateways."""
    for at in sorted({at for value in by_hostname(MODEL, raw) for at in store.by("hostname", value)}):
        other = store.get(*at)
        if other and _age(other) < _age(raw) and _meet(raw, other):
            return f"{MODEL} {at[1]}/{at[2]}"
    return ""


def _age(raw: Obj) -> tuple[str, str]:
    return raw["metadata"].get("creationTimestamp", ""), raw["metadata"]["uid"]


def _meet(one: Obj, other: Obj) -> bool:
    """Whether two objects name a listener in common; who names no section means all of the Gateway's."""
    return any(
        gateway == theirs and (section == their_section or not (section and their_section))
        for gateway, section in _listeners(one)
        for theirs, their_section in _listeners(other)
    )


def _listeners(raw: Obj) -> list[tuple[tuple[str, str], str]]:
    """Gateway (namespace, name) and section of each parent; "" = every section."""
    namespace = raw["metadata"]["namespace"]
    parents = raw["spec"]["rollout"]["router"]["parentRefs"]
    return [((p.get("namespace") or namespace, p["name"]), p.get("sectionName") or "") for p in parents]
