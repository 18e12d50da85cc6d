"""Recipes as objects: found, missing, edited, taken up; and never a roll without a word of the owner."""

from __future__ import annotations

import copy
from typing import Any

from .world import SPEC, World, result

RECIPE: dict[str, Any] = {
    "parameters": [{"name": "group", "default": "whole"}, {"name": "bar", "default": "0.3"}],
    "steps": [{"name": "graph", "type": "Export"}, {"name": "int8", "type": "Quantize"}],
    "gates": [{"name": "size", "metric": "SizeRatio", "max": "$(bar)"}],
}
USES = {"recipeRef": {"name": "small"}}
FLOAT16 = RECIPE | {
    "steps": [RECIPE["steps"][0], {"name": "half", "type": "Quantize", "quantize": {"method": "Float16"}}]
}


def world(recipe: dict[str, Any] | None = RECIPE, **optimization: Any) -> World:
    w = World(SPEC | {"optimization": USES | optimization})
    if recipe is not None:
        w.set_recipe(copy.deepcopy(recipe))
    return w


def refresh(w: World, text: str = "1") -> None:
    w.edit(source=SPEC["source"] | {"refresh": text})
    w.settle()


def revision(w: World) -> dict[str, Any]:
    return w.get("ModelRevision", f"m-{w.status['revision']}")["spec"]


def job_input(w: World) -> str:
    return str(w.get("Job", w.names("Job")[-1]))


def test_the_resolved_steps_are_copied_into_the_revision_and_the_job() -> None:
    w = world(
        steps=[{"name": "int8", "type": "Quantize", "quantize": {"perChannel": False}}], parameters={"bar": "0.5"}
    )
    w.settle()
    assert [s["name"] for s in revision(w)["steps"]] == ["graph", "int8"]
    assert revision(w)["steps"][1]["quantize"] == {"perChannel": False}
    assert revision(w)["recipe"]["gates"] and revision(w)["recipeRef"] == {"name": "small"}
    assert '"perChannel":false' in job_input(w) and '"max":"0.5"' in job_input(w)
    assert [s["name"] for s in w.status["steps"]] == ["graph", "int8"]
    w.serve()
    assert w.condition("Ready") and not w.condition("Outdated")
    rest = w.version
    w.pass_time(3600)
    assert w.version == rest, "steady state writes nothing"


def test_the_same_steps_by_hand_and_by_recipe_are_one_revision() -> None:
    w = World()
    w.serve()
    hash = w.status["revision"]
    w.set_recipe(RECIPE | {"gates": []})
    w.edit(optimization=USES)
    w.settle()
    assert w.status["revision"] == hash and w.condition("Ready")
    w.set_recipe(FLOAT16 | {"gates": []})
    w.settle()
    assert w.status["revision"] == hash and w.condition("Outdated", "True", "RecipeEdited")


def test_a_missing_recipe_is_refused_and_heals_when_it_appears() -> None:
    w = world(None)
    w.settle()
    assert w.condition("Ready", "False", "RecipeNotFound") and not w.condition("Stalled")
    assert w.message() == (
        "ClusterOptimizationRecipe small does not exist. Create it, or name another in optimization.recipeRef."
    )
    assert w.names("Job") == w.names("ModelRevision") == []
    w.set_recipe(RECIPE)
    w.settle()
    assert w.condition("Ready", "False", "Optimizing") and len(w.names("Job")) == 1
    w.serve()
    assert w.condition("Ready")


def test_a_missing_parameter_is_refused_and_heals_by_the_spec() -> None:
    w = world(RECIPE | {"parameters": [{"name": "bar", "description": "Largest share."}]})
    w.settle()
    assert w.condition("Stalled", "True", "ParameterMissing") and "'bar' (Largest share)" in w.message()
    w.edit(optimization=USES | {"parameters": {"bar": "0.4"}})
    w.settle()
    assert not w.condition("Stalled") and len(w.names("Job")) == 1


def test_what_is_wrong_with_a_recipes_steps_says_whose_they_are_and_heals_by_the_recipe() -> None:
    w = world(RECIPE | {"steps": RECIPE["steps"][::-1]})
    w.settle()
    assert w.condition("Stalled", "True", "WrongOrder") and "ClusterOptimizationRecipe small" in w.message()
    w.set_recipe(RECIPE)
    w.settle()
    assert not w.condition("Stalled") and w.condition("Ready", "False", "Optimizing")


def test_an_edited_recipe_rolls_nothing_until_it_is_taken_up() -> None:
    w = world()
    w.serve()
    hash, jobs = w.status["revision"], w.names("Job")
    w.set_recipe(FLOAT16)
    w.settle()
    assert w.condition("Outdated", "True", "RecipeEdited") and w.condition("Ready")
    assert "small was edited since; change spec.source.refresh" in w.message("Outdated")
    w.edit(serving={"replicas": 3})
    w.settle()
    assert (w.status["revision"], w.names("Job")) == (hash, jobs), "an edit of something else takes nothing up"
    refresh(w)
    assert w.status["revision"] != hash and not w.condition("Outdated")
    assert revision(w)["steps"][1]["name"] == "half"
    w.end_job(result("sha256:bb"))
    w.start_pods(count=3)
    assert w.condition("Ready") and w.status["stableRevision"] != hash


def test_edited_gates_judge_nothing_again_until_they_are_taken_up() -> None:
    w = world()
    w.serve()
    jobs = w.names("Job")
    w.set_recipe(RECIPE | {"gates": [{"name": "size", "metric": "SizeRatio", "max": "0.1"}]})
    w.settle()
    assert w.names("Job") == jobs and w.condition("QualityPassed") and w.condition("Outdated", "True", "RecipeEdited")
    w.edit(optimization=USES | {"parameters": {"bar": "0.2"}})
    w.settle()
    assert '"max":"0.2"' in job_input(w), "the owner's own bar judges again, by the gates that the revision keeps"
    w.end_job(result())
    refresh(w)
    assert '"max":"0.1"' in job_input(w) and not w.condition("Outdated")


def test_a_description_is_no_edit() -> None:
    w = world()
    w.serve()
    w.set_recipe(
        RECIPE | {"description": "Small.", "parameters": [*RECIPE["parameters"], {"name": "x", "default": "y"}]}
    )
    w.settle()
    assert w.condition("Ready") and not w.condition("Outdated")


def test_a_removed_recipe_stops_nothing_that_has_a_revision() -> None:
    w = world()
    w.settle()
    w.drop_recipe()
    w.settle()
    assert w.condition("Outdated", "True", "RecipeNotFound") and w.condition("Ready", "False", "Optimizing")
    w.end_job(result())
    w.start_pods()
    assert w.condition("Ready") and w.condition("Outdated", "True", "RecipeNotFound")
    refresh(w)
    assert w.condition("Ready", "False", "RecipeNotFound") and w.condition("Available")


def test_an_edit_that_no_longer_fits_is_told_and_stops_nothing() -> None:
    w = world()
    w.serve()
    w.set_recipe(RECIPE | {"parameters": [{"name": "bar"}]})
    w.settle()
    assert w.condition("Ready") and w.condition("Outdated", "True", "RecipeEdited")
    assert "needs parameter 'bar'" in w.message("Outdated")


def test_a_runtime_edited_after_an_equal_one_was_named_rolls_nothing() -> None:
    """The revision carries the first name; what the generation asked for stands nevertheless."""
    w = World()
    w.serve()
    hash = w.status["revision"]
    twin = {
        "kind": "ClusterTritonRuntime",
        "metadata": {"name": "twin", "namespace": ""},
        "spec": {"image": "triton:1"},
    }
    w.put(twin)
    w.edit(serving={"runtimeRef": {"name": "twin"}})
    w.settle()
    w.put(twin | {"spec": {"image": "triton:2"}})
    w.settle()
    assert w.status["revision"] == hash and w.condition("Outdated", "True", "RuntimeEdited")
