"""Which searches are refused before a pod exists, and what the refusal proposes."""

from __future__ import annotations

import pytest

from optimodel.api.search import Auto
from optimodel.api.sources import S3, Dataset, Part, Split
from optimodel.api.spec import Gate
from optimodel.api.steps import QAT, Distill, FineTune, Prune, Step
from optimodel.recipes import search

VALIDATION = "q/validation"
TRAIN = "q/train"
AUTO = Auto(VALIDATION, train=TRAIN, prune=("FFN", "Vocabulary"))
QUESTIONS = Dataset(
    "q", s3=S3("s3://d/q.jsonl"), split=Split((Part("train", 60), Part("validation", 20), Part("test", 20)))
)
COPY = Dataset("copy", s3=S3("s3://d/q.jsonl"))
GRAPH = Step("graph", "Export")
SMALL = Step("small", "Distill", distill=Distill(TRAIN))
THIN = Step("thin", "Prune", prune=Prune("FFN"))
TUNED = Step("adapt", "FineTune", fine_tune=FineTune(TRAIN, "PromptTuning"))
AWARE = Step("aware", "QAT", qat=QAT(TRAIN))
FLOOR = Gate("loss", "Accuracy", data="q/test", max_drop="0.01")


def reasons(auto: Auto = AUTO, steps: tuple[Step, ...] = (GRAPH,), bars: tuple[Gate, ...] = (FLOOR,)) -> list[str]:
    problems = search.check(auto, "TextClassification", steps, bars, (QUESTIONS, COPY))
    assert all(p.message.endswith(".") for p in problems)
    return [*dict.fromkeys(p.reason for p in problems)]


def test_a_legal_search_has_no_problem() -> None:
    tune = Step("adapt", "FineTune", fine_tune=FineTune("q/train"))
    small = Step("small", "Distill", distill=Distill("q/train"))
    assert reasons() == reasons(steps=(tune, small, GRAPH)) == reasons(Auto(VALIDATION)) == []
    assert reasons(steps=(GRAPH, tune)) == [], "the order is wrong without a search too, and told as such"
    layers = Auto(VALIDATION, train=TRAIN, prune=("Layers",))
    assert reasons(layers, (TUNED, GRAPH)) == [], "a student reads no virtual tokens"
    assert search.check(None, "TextClassification", (GRAPH,), (), ()) == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bars": ()}, "FloorMissing"),
        ({"bars": (Gate("size", "SizeRatio", max="0.4"),)}, "FloorMissing"),
        ({"steps": (GRAPH, Step("int8", "Quantize"))}, "SearchConflict"),
        ({"steps": (THIN, GRAPH)}, "SearchConflict"),
        ({"steps": (SMALL, GRAPH), "auto": Auto(VALIDATION, train=TRAIN, prune=("Layers",))}, "SearchConflict"),
        ({"steps": (THIN, GRAPH), "auto": Auto(VALIDATION, train=TRAIN, prune=("Layers",))}, "SearchConflict"),
        ({"steps": (TUNED, GRAPH)}, "SearchConflict"),
        ({"steps": (AWARE, GRAPH)}, "SearchConflict"),
        ({"steps": (Step("auto-graph", "Export"),)}, "SearchConflict"),
        ({"auto": Auto("q/dev")}, "SearchDataUnknown"),
        ({"auto": Auto(VALIDATION, train="nope")}, "SearchDataUnknown"),
        ({"auto": Auto(VALIDATION, prune=("FFN",))}, "SearchDataMissing"),
        ({"auto": Auto("q/test")}, "DataNotHeldOut"),
        ({"auto": Auto("q/train", train="q/train")}, "DataNotHeldOut"),
        ({"auto": Auto(VALIDATION, train="q/test")}, "DataNotHeldOut"),
        ({"auto": Auto("copy")}, "DataNotHeldOut"),
        (
            {"auto": Auto("q/train"), "steps": (Step("s", "Distill", distill=Distill("q/train")), GRAPH)},
            "DataNotHeldOut",
        ),
    ],
)
def test_an_illegal_search_is_named(changes: dict[str, object], reason: str) -> None:
    assert reasons(**changes) == [reason]  # type: ignore[arg-type]


def test_a_floor_is_proposed_that_the_task_can_be_judged_by() -> None:
    for task, metric in (("TextClassification", "Accuracy"), ("TextEmbedding", "CosineMean")):
        (problem,) = search.check(Auto(VALIDATION), task, (GRAPH,), (), (QUESTIONS, COPY))
        assert problem.reason == "FloorMissing" and f"metric: {metric}," in problem.message


def test_a_search_drops_no_tokens_of_images() -> None:
    (problem,) = search.check(AUTO, "ImageClassification", (GRAPH,), (FLOOR,), (QUESTIONS, COPY))
    assert problem.reason == "SearchConflict" and "images have none" in problem.message
