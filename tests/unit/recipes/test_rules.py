"""A bad recipe is refused with a reason and a way out; a good one is not."""

from __future__ import annotations

import pytest

from optimodel import recipes
from optimodel.api.spec import S3, Dataset, Export, Gate, Quantize, Step

EXPORT = Step("graph", "Export")
QUANTIZE = Step("int8", "Quantize")
TREC = Dataset("trec", s3=S3("s3://data/trec.jsonl"))


def reasons(task="TextEmbedding", steps=(EXPORT, QUANTIZE), gates=(), data=()):
    problems = recipes.check(task, steps, gates, data)
    assert all(len(p.message) > 20 and p.message.endswith(".") for p in problems)
    return [p.reason for p in problems]


def test_legal_recipes_have_no_problem():
    gates = (
        Gate("cosine", "CosineMean", min="0.985"),
        Gate("accuracy", "Accuracy", data="trec", min="0.9"),
        Gate("size", "SizeRatio", max="0.27"),
    )
    assert reasons() == []
    assert reasons(steps=(EXPORT,)) == []
    assert reasons("TextClassification", gates=gates, data=(TREC,)) == []


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ((), "ExportMissing"),
        ((QUANTIZE,), "ExportMissing"),
        ((QUANTIZE, EXPORT), "WrongOrder"),
        ((EXPORT, Step("graph", "Quantize")), "DuplicateName"),
        ((EXPORT, Step("again", "Export")), "StepRepeated"),
        ((Step("graph", "Export", quantize=Quantize()),), "StepSettingsMismatch"),
        ((EXPORT, Step("int8", "Quantize", export=Export())), "StepSettingsMismatch"),
    ],
)
def test_illegal_steps_are_named(steps, reason):
    assert reasons(steps=steps) == [reason]


@pytest.mark.parametrize(
    ("gate", "data", "reason"),
    [
        (Gate("g", "CosineMean", min="0.9"), (), "GateDataMissing"),
        (Gate("g", "CosineMean", min="0.9"), (TREC, Dataset("b", s3=S3("s3://b/c"))), "GateDataMissing"),
        (Gate("g", "CosineMean", data="nope", min="0.9"), (TREC,), "GateDataUnknown"),
        (Gate("g", "Accuracy", min="0.9"), (TREC,), "MetricNotForTask"),
        (Gate("g", "CosineMean", min="high"), (TREC,), "BadDecimal"),
        (Gate("g", "CosineMean", min="NaN"), (TREC,), "BadDecimal"),
        (Gate("g", "CosineMean", min="0.9", confidence="1.2"), (TREC,), "BadDecimal"),
        (Gate("g", "SizeRatio"), (), "GateBoundMissing"),
        (Gate("g", "SizeRatio", min="0.1", max="0.3"), (), "GateBoundInvalid"),
    ],
)
def test_illegal_gates_are_named(gate, data, reason):
    assert reasons(gates=(gate,), data=data) == [reason]


def test_names_are_unique_and_data_has_one_source():
    gate = Gate("g", "SizeRatio", max="0.3")
    assert reasons(gates=(gate, gate)) == ["DuplicateName"]
    assert reasons(data=(TREC, TREC)) == ["DuplicateName"]
    assert reasons(data=(Dataset("d"),)) == ["DataSourceInvalid"]
