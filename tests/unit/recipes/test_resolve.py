"""A recipe, its parameters and what an object says beside it, resolved into steps and gates."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimodel import recipes
from optimodel.api.sources import S3, Dataset, Part, Split
from optimodel.api.spec import Gate, Optimization, Parameter, RecipeRef, RecipeSpec
from optimodel.api.steps import Distill, FineTune, Quantize, Step, Training
from optimodel.recipes.resolve import resolve

REF = RecipeRef("small")
RECIPE = RecipeSpec(
    steps=(
        Step("adapt", "FineTune", fine_tune=FineTune("$(data)/train", training=Training(learning_rate="$(rate)"))),
        Step("graph", "Export"),
        Step("int8", "Quantize"),
    ),
    tasks=("TextClassification",),
    parameters=(Parameter("data", "Labelled text with parts train and test."), Parameter("rate", default="0.0001")),
    gates=(Gate("accuracy", "Accuracy", data="$(data)/test", max_drop="0.02"),),
)
QUESTIONS = Dataset("questions", s3=S3("s3://d/q.jsonl"), split=Split((Part("train", 80), Part("test", 20))))


def own(recipe_ref: RecipeRef | None = REF, **changes) -> Optimization:
    return Optimization(recipe_ref=recipe_ref, **({"parameters": {"data": "questions"}} | changes))


def refused(optimization: Optimization, recipe: RecipeSpec = RECIPE, task="TextClassification") -> list[str]:
    found = resolve(task, optimization, recipe)
    assert found.optimization == optimization or not found.problems
    return [f"{p.reason}: {p.message}" for p in found.problems]


def resolved(optimization: Optimization, recipe: RecipeSpec = RECIPE) -> Optimization:
    found = resolve("TextClassification", optimization, recipe)
    assert found.problems == ()
    return found.optimization


def test_parameters_fill_whole_texts_and_pieces() -> None:
    found = resolved(own())
    assert found.steps[0].fine_tune == FineTune("questions/train", training=Training(learning_rate="0.0001"))
    assert found.gates == (Gate("accuracy", "Accuracy", data="questions/test", max_drop="0.02"),)
    assert recipes.check("TextClassification", found.steps, found.gates, (QUESTIONS,)) == ()
    faster = resolved(own(parameters={"data": "questions", "rate": "0.001"}))
    assert faster.steps[0].fine_tune.training.learning_rate == "0.001"


def test_everything_else_of_the_object_stays() -> None:
    mine = own(timeout="5h", pod_template={"spec": {"nodeSelector": {"a": "b"}}})
    found = resolved(mine)
    assert msgspec.structs.replace(found, steps=mine.steps, gates=mine.gates) == mine


def test_a_step_of_the_same_name_replaces_the_recipes_as_a_whole() -> None:
    mine = Step("int8", "Quantize", quantize=Quantize(exclude=("Embeddings",)))
    found = resolved(own(steps=(mine,)))
    assert [s.name for s in found.steps] == ["adapt", "graph", "int8"] and found.steps[2] == mine


def test_further_steps_go_where_their_type_belongs() -> None:
    small = Step("small", "Distill", distill=Distill("questions/train"))
    thin = Step("thin", "Prune")
    found = resolved(own(steps=(thin, small)))
    assert [s.name for s in found.steps] == ["adapt", "small", "thin", "graph", "int8"]
    assert recipes.check("TextClassification", found.steps, found.gates, (QUESTIONS,)) == ()


def test_the_default_steps_of_an_object_stand_for_none() -> None:
    recipe = RecipeSpec(steps=(Step("to-onnx", "Export"), Step("int8", "Quantize")))
    assert resolved(own(parameters=None), recipe).steps == recipe.steps


def test_gates_replace_those_of_their_name_and_join_the_others() -> None:
    stricter, size = Gate("accuracy", "Accuracy", data="questions/test", min="0.9"), Gate("size", "SizeRatio", max="1")
    assert resolved(own(gates=(size, stricter))).gates == (stricter, size)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (None, ["ParameterMissing", "'data' (Labelled text with parts train and test).", "optimization.parameters"]),
        ({"data": "q", "dta": "x"}, ["ParameterUnknown", "'dta'", "ClusterOptimizationRecipe small has: data, rate."]),
    ],
)
def test_parameters_are_refused_by_name_with_the_known_ones(parameters, said) -> None:
    (found,) = refused(own(parameters=parameters))
    assert [word for word in said if word not in found] == []


def test_a_recipe_of_another_task_or_with_a_parameter_that_it_does_not_declare_is_refused() -> None:
    assert refused(own(), task="TextEmbedding")[0].startswith(
        "RecipeNotForTask: ClusterOptimizationRecipe small is for"
    )
    careless = RecipeSpec(steps=(Step("int8", "Quantize", quantize=Quantize("Static", data="$(text)")),))
    (found,) = refused(own(parameters=None), careless)
    assert found.startswith("ParameterUndeclared") and "$(text)" in found and "has: none" in found


def test_values_that_fit_no_field_are_refused_by_the_rules() -> None:
    def reasons(**parameters: str) -> list[str]:
        found = resolved(own(parameters={"data": "questions"} | parameters))
        return [p.reason for p in recipes.check("TextClassification", found.steps, found.gates, (QUESTIONS,))]

    assert reasons(rate="fast") == reasons(rate="1e-4") == ["BadDecimal"]
    assert set(reasons(data="nope")) == {"StepDataUnknown", "GateDataUnknown"}


@given(st.text(max_size=40))
def test_a_value_is_taken_as_it_is(value: str) -> None:
    """Also one that looks like a parameter: values are not filled again."""
    assert resolved(own(parameters={"data": value})).steps[0].fine_tune.data == f"{value}/train"


@given(
    st.permutations([Step(n, t) for n, t in (("a", "FineTune"), ("b", "Distill"), ("c", "Prune"), ("d", "Quantize"))])
)
def test_any_order_of_further_steps_gives_the_legal_order(steps) -> None:
    found = resolved(own(parameters=None, steps=tuple(steps)), RecipeSpec(steps=(Step("graph", "Export"),)))
    assert [s.name for s in found.steps] == ["a", "b", "c", "graph", "d"]
