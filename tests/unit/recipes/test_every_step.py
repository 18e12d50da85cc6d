"""Every step type against every mistake that a spec can hold: refused by name before a pod exists."""

from __future__ import annotations

from itertools import combinations

import pytest

from optimodel import recipes
from optimodel.api.sources import S3, Dataset, Part, Split
from optimodel.api.spec import Target
from optimodel.api.steps import QAT, Adversarial, Distill, Export, FineTune, Prune, Quantize, Recover, Step, Training
from optimodel.recipes.rules import ORDER

DATA = Dataset("d", s3=S3("s3://data/rows.jsonl"), split=Split((Part("train", 60), Part("test", 20))))
GRAPH = Step("graph", "Export")
SETTINGS = {
    "FineTune": {"fine_tune": FineTune("d/train")},
    "Distill": {"distill": Distill("d/train")},
    "Prune": {"prune": Prune(data="d/train", recover=Recover("d/train"))},
    "QAT": {"qat": QAT("d/train", "Static")},
    "Export": {"export": Export()},
    "Quantize": {"quantize": Quantize("Static", data="d/train")},
}
"""Legal settings of each type."""


def step(kind, name="step", **settings):
    return Step(name, kind, **(settings or SETTINGS[kind]))


def recipe(*wanted):
    """These steps and what they need, in the legal order: an Export, and for QAT its Quantize."""
    kinds = {s.type for s in wanted}
    steps = wanted if "Export" in kinds else (*wanted, GRAPH)
    if "QAT" in kinds and "Quantize" not in kinds:
        steps = (*steps, step("Quantize", "small"))
    return tuple(sorted(steps, key=lambda s: ORDER.index(s.type)))


def refusals(steps, data=(DATA,), task="TextClassification", target=None):
    """Reasons; every message names a way out."""
    problems = recipes.check(task, steps, (), data, target)
    for problem in problems:
        assert problem.message.endswith(".") and ". " in problem.message and len(problem.message) < 400
    return [problem.reason for problem in problems]


def test_every_type_has_legal_settings_here():
    assert set(SETTINGS) == set(ORDER)
    for kind in ORDER:
        assert refusals(recipe(step(kind))) == []


@pytest.mark.parametrize(("earlier", "later"), list(combinations(ORDER, 2)))
def test_two_types_have_one_order(earlier, later):
    two = (step(earlier, "one"), step(later, "two"))
    legal = recipe(*two)
    assert refusals(legal) == []
    swapped = [dict(zip(two, two[::-1], strict=True)).get(s, s) for s in legal]
    assert refusals(swapped) == ["WrongOrder"]


@pytest.mark.parametrize("kind", ORDER)
def test_a_type_comes_once(kind):
    again = (step(kind, "one"), step(kind, "two"))
    assert refusals(recipe(*again)) == ["StepRepeated"]


@pytest.mark.parametrize("kind", ORDER)
def test_a_device_that_a_type_makes_nothing_for(kind):
    found = refusals(recipe(step(kind)), target=Target(device="GPU"))
    assert found == (["DeviceNotSupported"] if kind in ("QAT", "Quantize") else []), "Quantize is Static here"


@pytest.mark.parametrize("other", ORDER)
@pytest.mark.parametrize("kind", ORDER)
def test_settings_of_another_type(kind, other):
    found = refusals(recipe(step(kind, **(SETTINGS[kind] | SETTINGS[other]))))
    assert found == ([] if kind == other else ["StepSettingsMismatch"])


@pytest.mark.parametrize("kind", sorted(set(ORDER) - {"Export"}))
@pytest.mark.parametrize(
    "data", [(), (Dataset("d", s3=S3("s3://data/rows.jsonl")),), (Dataset("other", s3=S3("s3://x/y")),)]
)
def test_data_that_are_not_there(kind, data):
    assert set(refusals(recipe(step(kind)), data)) == {"StepDataUnknown"}


@pytest.mark.parametrize(
    "wanted",
    [
        Step("step", "FineTune"),
        Step("step", "Distill"),
        step("Prune", prune=Prune("Layers")),
        step("Prune", prune=Prune("Vocabulary")),
        step("Quantize", quantize=Quantize("Static")),
    ],
)
def test_data_that_are_not_named(wanted):
    assert refusals(recipe(wanted)) == ["StepDataMissing"]


WRONG = ("", "1e-3", "NaN", "Infinity", "-0.5", "half", "0,5", " 0.5", "1" * 12, "٠.٥")
"""Texts that are no decimals of the spec, or below every bound."""


@pytest.mark.parametrize("text", WRONG)
@pytest.mark.parametrize(
    "made",
    [
        lambda text: step("FineTune", fine_tune=FineTune("d/train", training=Training(learning_rate=text))),
        lambda text: step("FineTune", fine_tune=FineTune("d/train", training=Training(warmup=text))),
        lambda text: step("FineTune", fine_tune=FineTune("d/train", training=Training(weight_decay=text))),
        lambda text: step("FineTune", fine_tune=FineTune("d/train", adversarial=Adversarial(epsilon=text))),
        lambda text: step("FineTune", fine_tune=FineTune("d/train", adversarial=Adversarial(weight=text))),
        lambda text: step("Distill", distill=Distill("d/train", temperature=text)),
        lambda text: step("Distill", distill=Distill("d/train", soft=text)),
        lambda text: step("Distill", distill=Distill("d/train", hidden=text)),
        lambda text: step("Distill", distill=Distill("d/train", training=Training(learning_rate=text))),
        lambda text: step("Prune", prune=Prune(keep=text)),
        lambda text: step("Prune", prune=Prune(recover=Recover("d/train", training=Training(warmup=text)))),
    ],
    ids=[
        "rate",
        "warmup",
        "decay",
        "epsilon",
        "weight",
        "temperature",
        "soft",
        "hidden",
        "distil-rate",
        "keep",
        "recover",
    ],
)
def test_texts_that_are_no_decimals(made, text):
    assert refusals(recipe(made(text))) == ["BadDecimal"]


@pytest.mark.parametrize("keep", ["0", "0.0", "1", "1.000", "2"])
@pytest.mark.parametrize("method", ["Heads", "FFN", "Layers", "Magnitude"])
def test_a_share_is_between_none_and_all(method, keep):
    assert refusals(recipe(step("Prune", prune=Prune(method, keep=keep, data="d/train")))) == ["BadDecimal"]


@pytest.mark.parametrize("layers", [(1, 1), (0, 0, 0), (3, 1), (2, 1, 0)])
def test_layers_are_named_once_and_in_order(layers):
    assert refusals(recipe(step("Distill", distill=Distill("d/train", keep_layers=layers)))) == ["LayersInvalid"]
