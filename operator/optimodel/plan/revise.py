"""Which revision this generation asks for."""

from __future__ import annotations

from dataclasses import dataclass

from ..api.spec import ModelRevisionSpec, TritonRuntimeSpec
from ..recipes.identity import revision_hash
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
    """The kept revision that matches the spec, whatever became of its runtime since, or a new one; None without a runtime."""
    for revision in sorted(s.revisions, key=lambda r: (r.spec.hash == s.status.revision, r.spec.number), reverse=True):
        runtime = revision.spec.runtime
        if _hash(s, runtime) == revision.spec.hash:
            outdated = s.runtime is not None and _hash(s, s.runtime) != revision.spec.hash
            return Target(revision.spec.hash, revision.spec, revision, outdated)
    if s.runtime is None:
        return None
    hash = _hash(s, s.runtime)
    return Target(hash, _spec(s, hash, s.runtime), None)


def _hash(s: Snapshot, runtime: TritonRuntimeSpec) -> str:
    return revision_hash(s.spec.task, s.spec.source, s.spec.optimization.steps, s.spec.serving.batching, runtime)


def _spec(s: Snapshot, hash: str, runtime: TritonRuntimeSpec) -> ModelRevisionSpec:
    return ModelRevisionSpec(
        model=s.meta.name,
        hash=hash,
        number=max((r.spec.number for r in s.revisions), default=0) + 1,
        task=s.spec.task,
        source=s.spec.source,
        steps=s.spec.optimization.steps,
        batching=s.spec.serving.batching,
        runtime=runtime,
    )
