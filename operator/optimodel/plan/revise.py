"""Which revision this generation asks for, and what it is judged by."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import msgspec

from ..api.spec import ModelRevisionSpec, Optimization, RecipeSpec, TritonRuntimeSpec
from ..recipes.identity import read_datasets, revision_hash
from ..recipes.models import read_models
from ..recipes.problem import Problem
from ..recipes.resolve import resolve
from .types import Revision, Snapshot


@dataclass(frozen=True)
class Outdated:
    """What this revision keeps was edited since, or went."""

    reason: str
    message: str


@dataclass(frozen=True)
class Target:
    """The revision of this generation. `revision` is None until it has been seen in the cluster."""

    hash: str
    spec: ModelRevisionSpec
    revision: Revision | None
    optimization: Optimization
    """What is asked of it, with the steps and gates of its recipe in it."""
    outdated: Outdated | None = None


def target(s: Snapshot) -> Target | None:
    """The kept revision that the spec asks for, or a new one; None without a runtime or without the recipe it names.

    A revision keeps the runtime and the recipe that it was made with, whatever became of them since, until the spec asks
    for others; and what a generation has asked for once, it goes on asking for.
    """
    live = _resolved(s, s.recipe)
    now = _hash(s, live, s.runtime) if live is not None and s.runtime is not None else ""
    for revision in sorted(s.revisions, key=lambda r: (r.spec.hash == s.status.revision, r.spec.number), reverse=True):
        kept = _kept(s, revision, live, now)
        if kept is not None:
            outdated = _recipe_outdated(s, kept, live) or _runtime_outdated(revision, now)
            return Target(revision.spec.hash, revision.spec, revision, kept, outdated)
    if live is None or s.runtime is None:
        return None
    return Target(now, _spec(s, live, now, s.runtime), None, live)


def problems(s: Snapshot) -> tuple[Problem, ...]:
    """Why the recipe that the spec names cannot be used as it is now."""
    own = s.spec.optimization
    if own.recipe_ref is None:
        return ()
    if s.recipe is None:
        ref = own.recipe_ref
        message = f"{ref.kind} {ref.name} does not exist. Create it, or name another in optimization.recipeRef."
        return (Problem("RecipeNotFound", message),)
    return resolve(s.spec.task, own, s.recipe).problems


def asked(s: Snapshot, wanted: Target | None) -> Snapshot:
    """The snapshot as every later phase reads it: the spec holds the steps and gates that are to be run."""
    found = wanted.optimization if wanted else _resolved(s, s.recipe)
    if found is None:
        return s
    return dataclasses.replace(s, spec=msgspec.structs.replace(s.spec, optimization=found))


def _resolved(s: Snapshot, recipe: RecipeSpec | None) -> Optimization | None:
    """What the spec asks for by this recipe; its own steps and gates if it names none."""
    own = s.spec.optimization
    if own.recipe_ref is None:
        return own
    found = resolve(s.spec.task, own, recipe) if recipe is not None else None
    return found.optimization if found and not found.problems else None


def _kept(s: Snapshot, revision: Revision, live: Optimization | None, now: str) -> Optimization | None:
    """What the spec asks of this revision; None if it asks for another."""
    r = revision.spec
    same_recipe = r.recipe_ref == s.spec.optimization.recipe_ref
    as_made = _resolved(s, r.recipe) if same_recipe else live
    same_runtime = r.runtime_ref == s.spec.serving.runtime_ref
    runtimes = ((r.runtime,) if same_runtime else ()) + ((s.runtime,) if s.runtime is not None else ())
    if as_made is not None and any(_hash(s, as_made, runtime) == r.hash for runtime in runtimes):
        return as_made
    if r.hash == now:
        return live
    if (s.status.observed_generation, s.status.revision) == (s.meta.generation, r.hash):
        return msgspec.structs.replace(as_made or live or s.spec.optimization, steps=r.steps, auto=r.auto)
    return None


def _recipe_outdated(s: Snapshot, kept: Optimization, live: Optimization | None) -> Outdated | None:
    ref = s.spec.optimization.recipe_ref
    if ref is None:
        return None
    if s.recipe is None:
        message = f"{ref.kind} {ref.name} is gone; the revision keeps what it was made with. Create it, or name another"
        return Outdated("RecipeNotFound", message)
    if live is None:
        message = f"{ref.kind} {ref.name} was edited since and does not fit any more: {problems(s)[0].message}"
        return Outdated("RecipeEdited", message)
    if (live.steps, live.gates) != (kept.steps, kept.gates):
        message = f"{ref.kind} {ref.name} was edited since; change spec.source.refresh to take it up"
        return Outdated("RecipeEdited", message)
    return None


def _runtime_outdated(revision: Revision, now: str) -> Outdated | None:
    if now in ("", revision.spec.hash):
        return None
    return Outdated("RuntimeEdited", "the runtime was edited since; change spec.source.refresh to take it up")


def _hash(s: Snapshot, asks: Optimization, runtime: TritonRuntimeSpec) -> str:
    return revision_hash(
        s.spec.task,
        s.spec.source,
        asks.steps,
        s.spec.serving.batching,
        runtime,
        s.spec.data,
        asks,
        asks.target.execution,
        s.spec.models,
    )


def _spec(s: Snapshot, asks: Optimization, hash: str, runtime: TritonRuntimeSpec) -> ModelRevisionSpec:
    return ModelRevisionSpec(
        model=s.meta.name,
        hash=hash,
        number=max((r.spec.number for r in s.revisions), default=0) + 1,
        task=s.spec.task,
        source=s.spec.source,
        steps=asks.steps,
        data=read_datasets(asks.steps, s.spec.data, asks.auto),
        models=read_models(asks.steps, s.spec.models),
        auto=asks.auto,
        batching=s.spec.serving.batching,
        accelerator=asks.target.execution,
        runtime=runtime,
        runtime_ref=s.spec.serving.runtime_ref,
        recipe=s.recipe if asks.recipe_ref else None,
        recipe_ref=asks.recipe_ref,
    )
