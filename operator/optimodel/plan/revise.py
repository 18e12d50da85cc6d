"""Which revision this generation asks for."""

from __future__ import annotations

from dataclasses import dataclass

from ..api.spec import ModelRevisionSpec, TritonRuntimeSpec
from ..recipes.identity import read_datasets, revision_hash
from .types import Revision, Snapshot


@dataclass(frozen=True)
class Target:
    """The revision of this generation. `revision` is None until it has been seen in the cluster."""

    hash: str
    spec: ModelRevisionSpec
    revision: Revision | None
    outdated: bool = False
    """The runtime was edited since: the revision keeps what it was made with."""


def target(s: Snapshot) -> Target | None:
    """The kept revision that the spec asks for, or a new one; None without a runtime.

    A revision keeps the runtime that it was made with, whatever became of it since, until the spec names another.
    """
    now = _hash(s, s.runtime) if s.runtime is not None else ""
    for revision in sorted(s.revisions, key=lambda r: (r.spec.hash == s.status.revision, r.spec.number), reverse=True):
        same_name = revision.spec.runtime_ref == s.spec.serving.runtime_ref
        if revision.spec.hash == now or (same_name and _hash(s, revision.spec.runtime) == revision.spec.hash):
            return Target(revision.spec.hash, revision.spec, revision, outdated=now not in ("", revision.spec.hash))
    if s.runtime is None:
        return None
    return Target(now, _spec(s, now, s.runtime), None)


def _hash(s: Snapshot, runtime: TritonRuntimeSpec) -> str:
    o = s.spec.optimization
    return revision_hash(s.spec.task, s.spec.source, o.steps, s.spec.serving.batching, runtime, s.spec.data)


def _spec(s: Snapshot, hash: str, runtime: TritonRuntimeSpec) -> ModelRevisionSpec:
    return ModelRevisionSpec(
        model=s.meta.name,
        hash=hash,
        number=max((r.spec.number for r in s.revisions), default=0) + 1,
        task=s.spec.task,
        source=s.spec.source,
        steps=s.spec.optimization.steps,
        data=read_datasets(s.spec.optimization.steps, s.spec.data),
        batching=s.spec.serving.batching,
        runtime=runtime,
        runtime_ref=s.spec.serving.runtime_ref,
    )
