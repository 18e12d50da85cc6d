"""`auto` as objects: what the Job is asked, what makes a new search, and what is said of its outcome."""

from __future__ import annotations

import copy
from typing import Any

import msgspec

from optimodel.api.contract import GateResult
from optimodel.api.search import SearchResult

from .world import SPEC, World, result

PARTS = [{"name": name, "percent": 30} for name in ("train", "validation", "test")]
GRAPH = {"name": "graph", "type": "Export"}
AWARE = {"name": "aware", "type": "QAT", "qat": {"data": "q/train"}}
OPTIMIZATION: dict[str, Any] = {
    "steps": [GRAPH],
    "auto": {"validation": "q/validation"},
    "gates": [
        {"name": "alike", "metric": "CosineMean", "data": "q/test", "min": "0.98"},
        {"name": "size", "metric": "SizeRatio", "max": "0.4"},
    ],
}
AUTO = SPEC | {
    "data": [{"name": "q", "s3": {"url": "s3://data/q.jsonl"}, "split": {"parts": PARTS}}],
    "optimization": OPTIMIZATION,
}
FOUND = SearchResult("Latency", "dynamic-int8: it is fast.", "dynamic-int8", 7, 5)
NOTHING = SearchResult("Latency", "0 of 7 candidates hold the floor. The baseline is kept.", "", 7, 0)
PASSED = GateResult("alike", "CosineMean", "Pass")
TOO_LARGE = GateResult("size", "SizeRatio", "Fail", "1", "1", "1", "0.4")


def with_auto(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(AUTO | {"optimization": OPTIMIZATION | changes})


def test_the_search_is_part_of_the_revision_and_of_the_job() -> None:
    w = World(with_auto())
    w.settle()
    revision = w.get("ModelRevision", f"m-{w.status['revision']}")["spec"]
    assert revision["auto"] == {"validation": "q/validation"} and revision["data"][0]["name"] == "q"
    assert '"auto":{"validation":"q/validation"}' in str(w.get("Job", w.names("Job")[0]))


def test_another_floor_is_another_search_and_other_judging_is_not() -> None:
    w = World(with_auto())
    w.serve()
    first = w.status["revision"]
    judged = [OPTIMIZATION["gates"][0] | {"data": "q/train"}, OPTIMIZATION["gates"][1]]
    w.edit(optimization=OPTIMIZATION | {"gates": judged})
    w.settle()
    assert w.status["revision"] == first, "only the winner is judged again"
    lower = [OPTIMIZATION["gates"][0] | {"min": "0.97"}, OPTIMIZATION["gates"][1]]
    hashes = {first}
    for change in ({"gates": lower}, {"auto": {"validation": "q/validation", "objective": "Size"}}):
        w.edit(optimization=OPTIMIZATION | change)
        w.settle()
        hashes.add(w.status["revision"])
    assert len(hashes) == 3
    w.edit(optimization=OPTIMIZATION | {"auto": {"validation": "q/validation", "trials": 16, "seed": 0}})
    w.settle()
    assert w.status["revision"] == first, "defaults written out change nothing"


def test_the_winner_and_its_reason_are_told() -> None:
    w = World(with_auto())
    w.settle()
    w.end_job(msgspec.structs.replace(result(), search=FOUND, gates=(PASSED,)))
    assert w.status["search"] == {
        "objective": "Latency", "reason": "dynamic-int8: it is fast.", "winner": "dynamic-int8", "trials": 7, "feasible": 5,
    }  # fmt: skip
    assert w.condition("Optimized", "True", "Optimized") and w.message("Optimized") == FOUND.reason
    w.start_pods()
    assert w.condition("Ready")


def test_a_kept_baseline_serves_and_says_so() -> None:
    w = World(with_auto())
    w.settle()
    kept = msgspec.structs.replace(result(), reason="NoFeasibleRecipe", search=NOTHING, gates=(PASSED, TOO_LARGE))
    w.end_job(kept)
    assert w.condition("Optimized", "True", "NoFeasibleRecipe") and w.message("Optimized") == NOTHING.reason
    assert w.condition("QualityPassed", "False", "NoFeasibleRecipe") and "size" in w.message("QualityPassed")
    assert "NoFeasibleRecipe" in w.events
    revision = w.get("ModelRevision", f"m-{w.status['revision']}")["status"]
    assert revision["phase"] == "Optimized" and revision["search"]["trials"] == 7
    w.start_pods()
    assert w.condition("Ready") and not w.condition("Stalled")
    rest = w.version
    w.pass_time(3600)
    assert w.version == rest, "steady state writes nothing"


def test_an_illegal_search_is_refused_before_a_pod_exists() -> None:
    for changes, reason in (
        ({"gates": OPTIMIZATION["gates"][1:]}, "FloorMissing"),
        ({"auto": {"validation": "q/test"}}, "DataNotHeldOut"),
        ({"steps": [AWARE, GRAPH]}, "SearchConflict"),
        ({"steps": [AWARE, GRAPH, {"name": "int8", "type": "Quantize"}]}, "SearchConflict"),
        ({"auto": {"validation": "q/validation", "timeout": "2h"}}, "InvalidDuration"),
    ):
        w = World(with_auto(**changes))
        w.settle()
        assert w.condition("Stalled", "True", reason), w.status
        assert w.names("Job") == []


def test_a_search_that_trains_may_do_so_in_several_processes() -> None:
    for prune, refused in (("FFN", False), ("Layers", False), ("Vocabulary", True)):
        auto = OPTIMIZATION["auto"] | {"train": "q/train", "prune": [prune]}
        w = World(AUTO | {"optimization": OPTIMIZATION | {"auto": auto, "processes": 2}})
        w.settle()
        assert w.condition("Stalled", "True", "SettingUnused") == refused == (not w.names("Job"))


def test_a_search_that_cannot_train_in_parts_is_refused_by_the_words_of_the_spec() -> None:
    for prune, refused in (("FFN", True), ("Layers", False)):
        auto = OPTIMIZATION["auto"] | {"train": "q/train", "prune": [prune]}
        w = World(AUTO | {"optimization": OPTIMIZATION | {"auto": auto, "processes": 2, "parallelism": "FSDP"}})
        w.settle()
        assert w.condition("Stalled", "True", "StepNotSharded") == refused == (not w.names("Job"))
        assert not refused or ("auto.prune: FFN" in w.message() and "auto-ffn" not in w.message()), w.message()
