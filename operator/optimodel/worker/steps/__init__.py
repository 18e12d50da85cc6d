"""The techniques. A step reads one folder and makes a new one: it appears whole, verified in a fresh process, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optimodel.api.spec import Task
from optimodel.api.steps import Step, StepType
from optimodel.recipes import identity

from ..tasks import KINDS
from ..versions import version
from . import distill, export, finetune, prune, qat, quantize
from .technique import Context, Technique

REGISTRY: dict[StepType, Technique] = {
    "FineTune": finetune.TECHNIQUE,
    "Distill": distill.TECHNIQUE,
    "Prune": prune.TECHNIQUE,
    "QAT": qat.TECHNIQUE,
    "Export": export.TECHNIQUE,
    "Quantize": quantize.TECHNIQUE,
}


def key(
    step: Step,
    input_digest: str,
    task: Task,
    data_digest: str = "",
    made_for: str = "",
    models: Mapping[str, str] | None = None,
) -> str:
    """The content address of a step's result: input, settings, the rows and other models it reads, task, the code's revision
    and its tools' versions; or, `made_for` a revision of a model, that revision in the place of the versions."""
    technique = REGISTRY[step.type]
    form: dict[str, Any] = {
        "input": input_digest,
        "step": identity.canonical_step(step),
        "task": task,
        "revision": technique.revision,
    }
    if made_for:
        form["madeFor"] = made_for
    else:
        form["tools"] = {name: version(name) for name in (*technique.tools, *KINDS[task].tools)}
    if data_digest:
        form["data"] = data_digest
    if models:
        form["models"] = models
    return identity.digest(form, 64)


def run(step: Step, source: Path, out: Path, context: Context) -> None:
    """Make `out` from `source`. Raises `Failure`."""
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        REGISTRY[step.type].run(identity.step_settings(step), source, partial, context)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


__all__ = ["REGISTRY", "Context", "Technique", "key", "run"]
