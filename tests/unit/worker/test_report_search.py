"""What the page says of a search."""

from __future__ import annotations

import msgspec
from tests.unit.worker.test_report import HOSTILE, Page, example

from optimodel.api.contract import GateResult
from optimodel.api.search import SearchResult
from optimodel.recipes.search import Observation, Part, Sensitivity, Timing
from optimodel.worker import report

HELD = (GateResult("alike", "CosineMean", "Pass", "0.99", "0.985", "0.995", "0.98", 400),)
COARSE = (GateResult("alike", "CosineMean", "Fail", "0.9", "0.89", "0.91", "0.98", 64),)
TRIALS = (
    Observation("dynamic-int8", "Judged", 9.0, 1, 23_000_000, HELD, 0.991, 0.99, 0.5, 0.5),
    Observation("float16", "Judged", 9.0, 1, 45_000_000, HELD, 1.0, 0.999, 0.9, 0.9),
    Observation("weights-int4", "Screened", 2.0, 1, 15_000_000, COARSE, 0.9),
    Observation("Vocabulary pruned, dynamic-int8", "Failed", message=HOSTILE),
)
FINAL = Timing(("dynamic-int8", "float16"), ((0.4, 0.5, 0.45), (0.48, 0.6, 0.5)), 20.0)
RANKED = Sensitivity("weights-int4", (Part("FFNDown", 0.02, 100), Part("Attention", 0.03, 200)))


def page(**changes: object) -> Page:
    before = example()
    found = SearchResult("Latency", "dynamic-int8: it is fast.", "dynamic-int8", 4, 2)
    details = {
        "validation": "questions/validation", "rows": 400, "seed": 7, "seconds": 20.0,
        "final": msgspec.to_builtins(FINAL),
        "front": ["dynamic-int8", "float16"], "trials": msgspec.to_builtins(TRIALS), "sensitivity": msgspec.to_builtins([RANKED]),
    } | changes  # fmt: skip
    result = msgspec.structs.replace(before.result, search=found)
    return Page(
        report.page(msgspec.structs.replace(before, result=result, details=before.details | {"search": details}))
    )


def test_every_trial_is_shown_with_its_fate() -> None:
    shown = page()
    rows = shown.table("search")
    assert rows["1"][:4] == ["dynamic-int8", "winner", "23.00 MB", "0.5"]
    assert rows["2"][1] == "Pareto" and rows["2"][5] == "0.999"
    assert rows["3"][1] == "out on few texts" and rows["3"][-1] == "alike Fail"
    assert rows["4"][1] == "could not be made" and "alert('1')" in rows["4"][-1]
    assert shown.table("final") == {"dynamic-int8": ["0.45", "0.4", "0.5"], "float16": ["0.5", "0.48", "0.6"]}
    text = " ".join(shown.text)
    assert "in 3 rounds" in text and "dynamic-int8: it is fast." in text and "400 rows of questions/validation" in text
    assert "Sensitivity to weights-int4" in text and text.index("Attention") < text.index("FFNDown")
    circles = [value for name, key, value in shown.attributes if (name, key) == ("circle", "class")]
    assert circles.count("dot") >= 2, "both of the Pareto list are on the plane"


def test_a_search_whose_trials_left_nothing_open_tells_no_final() -> None:
    assert "final" not in [value for _, key, value in page(final=None).attributes if key == "id"]


def test_a_report_without_a_search_says_nothing_of_one() -> None:
    assert "search" not in [v for t, k, v in Page(report.page(example())).attributes if k == "id"]


def test_a_search_in_which_nothing_was_timed_has_no_plane() -> None:
    assert "latency: " not in " ".join(page(trials=msgspec.to_builtins(TRIALS[2:])).text)
