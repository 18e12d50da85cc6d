"""A suspended object has no Job and tries nothing, whatever else is wrong with it; who asks is told."""

from __future__ import annotations

from typing import Any

import pytest

from optimodel.api import names
from optimodel.api.contract import Result

from .world import RUNTIME, World


def no_runtime(w: World) -> None:
    found = w.store.get("ClusterTritonRuntime", "", "default")
    assert found is not None
    w.store.remove("ClusterTritonRuntime", found)


def no_export(w: World) -> None:
    w.edit(optimization={"steps": [{"name": "int8", "type": "Quantize"}]})


def no_recipe(w: World) -> None:
    w.edit(optimization={"recipeRef": {"name": "gone"}})


@pytest.mark.parametrize("spoil", [no_runtime, no_export, no_recipe])
def test_no_job_runs_while_a_refused_object_is_suspended(spoil: Any) -> None:
    w = World()
    w.settle()
    assert w.names("Job")
    spoil(w)
    w.settle()
    assert w.names("Job"), "what is at work is not lost to a mistake"
    w.edit(suspend=True)
    w.settle()
    assert w.condition("Suspended") and not w.names("Job")


@pytest.mark.parametrize("hindrance", ["suspended", "refused"])
def test_a_retry_that_cannot_be_is_refused_and_counts_once_asked_again(hindrance: str) -> None:
    w = World()
    w.settle()
    w.end_job(Result("Failed", "PickleWeights", "x"), code=10)
    assert w.condition("Stalled", "True", "PickleWeights")
    before = w.names("Job")
    if hindrance == "suspended":
        w.edit(suspend=True)
    else:
        no_runtime(w)
    w.settle()
    action = f"retry {w.status['revision']}"
    w.act(action)
    w.settle()
    assert w.events.count("ActionRefused") == 1 and w.status["handledAction"] == action
    if hindrance == "suspended":
        w.edit(suspend=False)
    else:
        w.set_runtime(RUNTIME)
    w.settle()
    assert w.condition("Stalled", "True", "PickleWeights")
    w.act(f"{action} again")
    w.settle()
    assert w.condition("Stalled", "False") or not w.condition("Stalled")
    (job,) = w.names("Job")
    assert [job] != before and names.MODEL in w.get("Job", job)["metadata"]["labels"]
