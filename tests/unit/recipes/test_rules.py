"""A bad recipe is refused with a reason and a way out; a good one is not."""

from __future__ import annotations

import pytest

from optimodel import recipes
from optimodel.api.sources import S3, Dataset, Part, Split
from optimodel.api.spec import Gate
from optimodel.api.steps import QAT, Adversarial, Distill, Export, FineTune, Prune, Quantize, Recover, Step, Training

EXPORT = Step("graph", "Export")
QUANTIZE = Step("int8", "Quantize")
TREC = Dataset("trec", s3=S3("s3://data/trec.jsonl"))


QUESTIONS = Dataset("questions", s3=S3("s3://data/q.jsonl"), split=Split((Part("train", 60), Part("test", 20))))


def tune(data="questions/train", **settings):
    return Step("adapt", "FineTune", fine_tune=FineTune(data, **settings))


def distil(**settings):
    return Step("small", "Distill", distill=Distill("questions/train", **settings))


def prune(**settings):
    return Step("thin-" + settings.get("method", "ffn").lower(), "Prune", prune=Prune(**settings))


def quantize(**settings):
    return Step("int8", "Quantize", quantize=Quantize(**settings))


def aware(**settings):
    return Step("aware", "QAT", qat=QAT("questions/train", **settings))


def reasons(task="TextEmbedding", steps=(EXPORT, QUANTIZE), gates=(), data=(), target=None):
    problems = recipes.check(task, steps, gates, data, target)
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


def test_every_technique_in_its_order_is_legal():
    recover = Recover("questions/train")
    steps = (
        tune(method="LoRA", rank=4),
        distil(keep_layers=(1, 3, 5)),
        prune(method="Vocabulary", data="questions/train"),
        prune(keep="0.5", recover=recover),
        EXPORT,
        quantize(method="Static", data="questions/train"),
    )
    gates = (
        Gate("drop", "Accuracy", data="questions/test", max_drop="0.01"),
        Gate("f1", "MacroF1", data="questions/test", min="0.8"),
    )
    assert reasons("TextClassification", steps, gates, (QUESTIONS,)) == []
    assert reasons("TokenClassification", steps, gates, (QUESTIONS,)) == []
    assert reasons("ImageClassification", steps, gates, (QUESTIONS,)) == ["StepNotForTask"], (
        "there are no tokens to prune"
    )
    assert reasons("TextEmbedding", steps, gates, (QUESTIONS,)) == [
        "StepNotForTask",
        "MetricNotForTask",
        "MetricNotForTask",
    ]
    assert recipes.evidence(steps, gates, (QUESTIONS,)) == ("questions/test",)
    assert recipes.evidence(steps, (), (QUESTIONS, TREC)) == ("questions/test",), "what no step reads"
    assert recipes.evidence((tune("questions"),), (), (QUESTIONS,)) == ()


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (Step("adapt", "FineTune"), "StepDataMissing"),
        (tune("questions/dev"), "StepDataUnknown"),
        (tune("other"), "StepDataUnknown"),
        (tune(rank=4), "SettingUnused"),
        (tune(training=Training(learning_rate="0")), "BadDecimal"),
        (tune(training=Training(warmup="1")), "BadDecimal"),
        (distil(keep_layers=(3, 1)), "LayersInvalid"),
        (distil(soft="1.1"), "BadDecimal"),
        (prune(keep="1"), "BadDecimal"),
        (prune(method="Vocabulary"), "StepDataMissing"),
        (prune(method="Layers"), "StepDataMissing"),
        (prune(method="TwoFour", keep="0.4"), "SettingUnused"),
        (prune(recover=Recover("questions/train", rank=4)), "SettingUnused"),
        (
            prune(method="Vocabulary", data="questions/train", recover=Recover("questions/train")),
            "RecoverNotNeeded",
        ),
    ],
)
def test_settings_that_mean_nothing_are_refused(step, reason):
    assert reasons("TextClassification", (step, EXPORT), data=(QUESTIONS,)) == [reason]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"method": "Static"}, "StepDataMissing"),
        ({"method": "GPTQ", "bits": 4}, "StepDataMissing"),
        ({"method": "AWQ", "bits": 4}, "StepDataMissing"),
        ({"data": "questions/train"}, "SettingUnused"),
        ({"bits": 4}, "BitsNotSupported"),
        ({"group_size": 64}, "SettingUnused"),
        ({"method": "Float16", "per_channel": False}, "SettingUnused"),
        ({"method": "BFloat16", "bits": 4}, "BitsNotSupported"),
        ({"method": "Float16", "embedding_bits": 4}, "SettingUnused"),
        ({"exclude": ("Embeddings",), "embedding_bits": 4}, "SettingUnused"),
        ({"method": "GPTQ", "data": "questions/train", "per_channel": False}, "SettingUnused"),
        ({"method": "AWQ", "data": "questions/train", "per_channel": False}, "SettingUnused"),
    ],
)
def test_quantization_that_no_method_does_is_refused(settings, reason):
    assert reasons(steps=(EXPORT, quantize(**settings)), data=(QUESTIONS,)) == [reason]


def test_qat_trains_for_the_quantize_that_follows():
    four = {"method": "WeightOnly", "bits": 4, "group_size": 64}
    good = (prune(), aware(exclude=("Head", "FFNDown"), **four), EXPORT, quantize(exclude=("FFNDown", "Head"), **four))
    assert reasons(steps=good, data=(QUESTIONS,)) == []
    assert recipes.read_by(good) == ("questions/train",)
    assert reasons(steps=(aware(), EXPORT, QUANTIZE), data=(QUESTIONS,)) == [], "the defaults of both"


@pytest.mark.parametrize(
    ("steps", "reasons_found"),
    [
        ((Step("aware", "QAT"), EXPORT, QUANTIZE), ["StepDataMissing"]),
        ((aware(), EXPORT), ["QuantizeMissing"]),
        ((EXPORT, aware(), QUANTIZE), ["WrongOrder"]),
        ((aware(method="Static"), EXPORT, QUANTIZE), ["QuantizeMismatch"]),
        ((aware(exclude=("Head",)), EXPORT, QUANTIZE), ["QuantizeMismatch"]),
        ((aware(), EXPORT, quantize(per_channel=False)), ["QuantizeMismatch"]),
        ((aware(), EXPORT, quantize(method="Float16")), ["QuantizeMismatch"]),
        ((aware(method="WeightOnly", bits=4), EXPORT, quantize(method="WeightOnly")), ["QuantizeMismatch"]),
        ((aware(bits=4), EXPORT, quantize()), ["BitsNotSupported", "QuantizeMismatch"]),
        ((aware(group_size=16), EXPORT, quantize()), ["SettingUnused", "QuantizeMismatch"]),
        ((aware(), EXPORT, quantize(embedding_bits=4)), ["QuantizeMismatch"]),
        ((aware(embedding_bits=8), EXPORT, quantize()), []),
        (
            (aware(embedding_bits=4, exclude=("Embeddings",)), EXPORT, quantize(embedding_bits=4)),
            ["SettingUnused", "QuantizeMismatch"],
        ),
        (
            (aware(method="WeightOnly", bits=4, embedding_bits=8), EXPORT, quantize(method="WeightOnly")),
            ["QuantizeMismatch"],
        ),
    ],
)
def test_qat_for_another_rounding_is_refused(steps, reasons_found):
    assert reasons(steps=steps, data=(QUESTIONS,)) == reasons_found


def test_prune_comes_once_a_method_and_before_export():
    two = (prune(), Step("again", "Prune"), EXPORT)
    assert reasons(steps=two) == ["StepRepeated"]
    assert reasons(steps=(prune(), prune(method="Heads"), EXPORT)) == []
    assert reasons(steps=(EXPORT, prune())) == ["WrongOrder"]


def test_a_model_without_labels_is_not_fine_tuned():
    assert reasons(steps=(tune(), EXPORT), data=(QUESTIONS,)) == ["StepNotForTask"]
    assert reasons(steps=(distil(), EXPORT), data=(QUESTIONS,)) == []


def test_a_model_that_writes_text_has_metrics_and_steps_of_its_own():
    steps = (EXPORT, Step("w4", "Quantize", quantize=Quantize("WeightOnly", bits=4)))
    gates = (Gate("loss", "PerplexityRatio", data="questions/test", max="1.1"), Gate("size", "SizeRatio", max="0.3"))
    assert reasons("TextGeneration", steps, gates, (QUESTIONS,)) == []
    for metric in ("CosineMean", "Accuracy"):
        gate = Gate("g", metric, data="questions/test", min="0.9")
        assert reasons("TextGeneration", steps, (gate,), (QUESTIONS,)) == ["MetricNotForTask"]
    for task in ("TextEmbedding", "TextClassification"):
        assert reasons(task, (EXPORT,), gates, (QUESTIONS,)) == ["MetricNotForTask"]


@pytest.mark.parametrize("method", ["Full", "LoRA"])
def test_a_model_that_writes_text_is_trained_and_made_smaller(method):
    steps = (
        tune(method=method),
        distil(keep_layers=(1, 3)),
        EXPORT,
        quantize(method="GPTQ", bits=4, data="questions/train"),
    )
    gates = (Gate("loss", "PerplexityRatio", data="questions/test", max="1.1"),)
    assert reasons("TextGeneration", steps, gates, (QUESTIONS,)) == []
    seen = Gate("seen", "Perplexity", data="questions/train", max="20")
    assert reasons("TextGeneration", steps, (seen,), (QUESTIONS,)) == ["DataNotHeldOut"]


@pytest.mark.parametrize(
    ("step", "instead"),
    [
        (tune(method="Head"), "LoRA"),
        (tune(method="PromptTuning"), "LoRA"),
        (tune(method="PrefixTuning"), "LoRA"),
        (tune(adversarial=Adversarial()), "Remove it"),
        (prune(), "Distill"),
        (prune(recover=Recover("questions/train")), "Distill"),
        (aware(), "GPTQ"),
    ],
)
def test_what_is_not_made_for_a_model_that_writes_text_names_what_is(step, instead):
    steps = (step, EXPORT, QUANTIZE)
    (problem,) = recipes.check("TextGeneration", steps, (), (QUESTIONS,))
    assert problem.reason == "StepNotForTask" and repr(step.name) in problem.message and instead in problem.message
    assert recipes.check("TextClassification", steps, (), (QUESTIONS,)) == ()


COPY = Dataset("copy", s3=S3("s3://data/q.jsonl/"))
SAME = Dataset("same", s3=QUESTIONS.s3, split=QUESTIONS.split)
RESEEDED = Dataset("reseeded", s3=QUESTIONS.s3, split=Split(QUESTIONS.split.parts, seed=1))


@pytest.mark.parametrize(
    ("judged", "held_out"),
    [
        ("questions/test", True),
        ("questions/train", False),
        ("questions", False),
        ("trec", True),
        ("copy", False),
        ("same/test", True),
        ("same/train", False),
        ("reseeded/test", False),
    ],
)
def test_a_gate_judges_only_on_rows_that_no_step_reads(judged, held_out):
    gate = Gate("g", "CosineMean", data=judged, min="0.9")
    found = reasons(steps=(distil(), EXPORT), gates=(gate,), data=(QUESTIONS, TREC, COPY, SAME, RESEEDED))
    assert found == ([] if held_out else ["DataNotHeldOut"])


def test_a_gate_that_reads_no_data_has_nothing_to_hold_out():
    calibrated = (EXPORT, quantize(method="Static", data="trec"))
    bars = (
        Gate("size", "SizeRatio", max="0.4"),
        Gate("speed", "LatencyP50Ratio", max="0.8"),
        Gate("alone", "BatchInvariance", min="0.9999"),
    )
    assert reasons(steps=calibrated, gates=bars, data=(TREC,)) == []
    assert recipes.evidence(calibrated, bars, (TREC,)) == (), "its only rows were read by a step"
    assert recipes.evidence((EXPORT, QUANTIZE), bars, (TREC,)) == ("trec",)
    alike = Gate("alike", "CosineMean", min="0.9")
    assert reasons(steps=calibrated, gates=(alike,), data=(TREC,)) == ["DataNotHeldOut"]
    named = Gate("size", "SizeRatio", data="trec", max="0.4")
    assert reasons(steps=calibrated, gates=(named,), data=(TREC,)) == ["DataNotHeldOut"], "asked for by name"


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        (Gate("g", "CosineMean", data="trec", max_drop="0.01"), "GateBoundInvalid"),
        (Gate("g", "SizeRatio", max_drop="0.01"), "GateBoundInvalid"),
        (Gate("g", "MacroF1", data="trec", min="0.5", max_drop="0.01"), "GateBoundInvalid"),
        (Gate("g", "Accuracy", data="trec", max_drop="little"), "BadDecimal"),
        (Gate("g", "Accuracy", data="trec"), "GateBoundMissing"),
        (Gate("g", "MacroF1", data="trec/test", min="0.5"), "GateDataUnknown"),
    ],
)
def test_bounds_of_a_drop(gate, reason):
    assert reasons("TextClassification", gates=(gate,), data=(TREC,)) == [reason]


@pytest.mark.parametrize(("metric", "bounds"), [("Accuracy", "`min` or `maxDrop`."), ("SizeRatio", "`max`.")])
def test_a_gate_without_a_bound_is_told_those_that_it_may_have(metric, bounds):
    (problem,) = recipes.check("TextClassification", (EXPORT,), (Gate("g", metric, data="trec"),), (TREC,))
    assert problem.message == f"Gate 'g' has no bound: {metric} needs {bounds}"


def test_a_split_has_parts_of_one_to_a_hundred_percent():
    def split(*percents):
        parts = tuple(Part(f"p{i}", p) for i, p in enumerate(percents))
        return reasons(data=(Dataset("d", s3=S3("s3://a/b"), split=Split(parts)),))

    assert split(60, 40) == []
    assert split(60, 41) == ["SplitInvalid"]
    assert split(0, 41) == ["SplitInvalid"]
    assert split() == ["SplitInvalid"]


@pytest.mark.parametrize("method", ["PromptTuning", "PrefixTuning"])
def test_virtual_tokens_fit_the_weights_that_they_were_learnt_for(method):
    tuned = tune(method=method, virtual_tokens=8)
    classify = {"task": "TextClassification", "data": (QUESTIONS,)}
    assert reasons(steps=(tuned, EXPORT, QUANTIZE), **classify) == []
    assert reasons(steps=(tuned, prune(), EXPORT), **classify) == ["VirtualTokensNotSupported"]
    assert reasons(steps=(tuned, distil(), prune(), EXPORT), **classify) == [], "the student reads none"
    assert reasons(steps=(tune(method="LoRA", virtual_tokens=8), EXPORT), **classify) == ["SettingUnused"]
    assert reasons(steps=(tune(method=method, rank=4), EXPORT), **classify) == ["SettingUnused"]


LESSONS = Training(max_length=64)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (tune(method="PromptTuning"), "StepNotForTask"),
        (tune(method="PrefixTuning"), "StepNotForTask"),
        (tune(adversarial=Adversarial()), "StepNotForTask"),
        (prune(method="Vocabulary", data="questions/train"), "StepNotForTask"),
        (aware(exclude=("Embeddings",)), "PartNotFound"),
        (quantize(exclude=("Head", "Embeddings")), "PartNotFound"),
        (quantize(embedding_bits=4), "SettingUnused"),
        (tune(training=LESSONS), "SettingUnused"),
        (distil(training=LESSONS), "SettingUnused"),
        (aware(training=LESSONS), "SettingUnused"),
        (prune(recover=Recover("questions/train", training=LESSONS)), "SettingUnused"),
    ],
)
def test_what_concerns_tokens_is_refused_for_images_and_only_for_them(step, reason):
    behind = [] if step.type == "Quantize" else [quantize(exclude=step.qat.exclude if step.qat else ())]
    steps = (*(() if step.type == "Quantize" else (step,)), EXPORT, *behind, *((step,) if not behind else ()))
    found = set(reasons("ImageClassification", steps, data=(QUESTIONS,)))
    assert found == {reason}
    assert reasons("TextClassification", steps, data=(QUESTIONS,)) == []


def test_what_images_can_do_is_legal():
    lessons = Recover("questions/train", "LoRA")
    steps = (
        tune(method="Head", freeze_embeddings=False),
        distil(),
        prune(method="Heads"),
        prune(recover=lessons),
        EXPORT,
        quantize(method="Static", data="questions/train", exclude=("Head",)),
    )
    gates = (Gate("f1", "MacroF1", data="questions/test", max_drop="0.01"),)
    assert reasons("ImageClassification", steps, gates, (QUESTIONS,)) == []
