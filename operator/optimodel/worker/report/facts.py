"""What a Job knows of itself: settings, places, versions. Collected where the report is written."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from typing import Any

import optimodel
from optimodel.api.contract import JobInput, Result
from optimodel.recipes import identity
from optimodel.recipes.models import read_models

from .. import steps
from ..tasks import KINDS
from ..versions import version
from .document import Job, Made, Report

ALWAYS = ("onnxruntime", "tokenizers", "numpy")
"""What measures and serves, whatever the steps."""


def report(
    wanted: JobInput,
    threads: int,
    stages: Sequence[tuple[str, int]],
    result: Result,
    details: dict[str, Any],
    judged_on: str,
) -> Report:
    """The report of a Job that has judged its result; `stages` are digest and weight bytes after each step, `judged_on` the digest of
    the rows."""
    source = result.artifact.source_digest if result.artifact else ""
    return Report(1, source, result, details, job(wanted, threads), lineage(wanted, stages), judged_on)


def job(wanted: JobInput, threads: int) -> Job:
    """The facts of a Job, now."""
    return Job(
        model=wanted.model,
        namespace=wanted.namespace,
        revision=wanted.revision,
        evaluation=wanted.evaluation,
        task=wanted.task,
        source=identity.canonical_source(wanted.source),
        data={item.name: identity.canonical_dataset(item) for item in wanted.data},
        tools=tools(wanted),
        threads=threads,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        models={item.name: identity.canonical_source(item.source) for item in read_models(wanted.steps, wanted.models)},
    )


def lineage(wanted: JobInput, stages: Sequence[tuple[str, int]]) -> tuple[Made, ...]:
    """Digest and weight bytes after each step, with the step."""
    return tuple(
        Made(step.name, step.type, digest, weights, identity.canonical_step(step)["settings"])
        for step, (digest, weights) in zip(wanted.steps, stages, strict=True)
    )


def tools(wanted: JobInput) -> dict[str, str]:
    """Versions of all that made and measured the result."""
    names = {name for step in wanted.steps for name in steps.REGISTRY[step.type].tools} | {
        *ALWAYS,
        *KINDS[wanted.task].tools,
    }
    found = {"optimodel": optimodel.__version__, "python": platform.python_version()}
    for name in sorted(names):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
