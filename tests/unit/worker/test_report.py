"""The page and the card say what was measured, need nothing else, and obey nothing that a user wrote."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimodel import artifacts
from optimodel.api.contract import Artifact, Figures, GateResult, JobInput, Result, StepProgress, Tensor
from optimodel.api.sources import S3, Artifacts, Dataset, LocalRef, Part, Source, Split
from optimodel.api.steps import FineTune, Quantize, Step, Training
from optimodel.worker import report
from optimodel.worker.report import facts
from optimodel.worker.report.document import Job, Made, Report
from optimodel.worker.report.words import flat, megabytes

SOURCE, ADAPTED, GRAPH, SMALL = (f"sha256:{c * 64}" for c in "abcd")
HOSTILE = """<script src="https://evil.example/x.js">alert('1')</script><img src=x onerror="a">](https://evil.example) | `x` &amp; \u202e"""
VOID = {"meta", "br"}
STEPS = (
    Step("adapt", "FineTune", fine_tune=FineTune("questions/train", training=Training(seed=7))),
    Step("graph", "Export"),
    Step("int8", "Quantize", quantize=Quantize(bits=8)),
)
JOB = JobInput(
    model="questions",
    namespace="team-a",
    revision="0a1b2c3d",
    evaluation="11111111",
    task="TextClassification",
    source=Source(s3=S3("s3://models/minilm", secret_ref=LocalRef("very-secret"))),
    artifacts=Artifacts(s3=S3("s3://store")),
    steps=STEPS,
    data=(
        Dataset("questions", s3=S3("s3://data/q.jsonl"), split=Split((Part("train", 60), Part("test", 20)), seed=5)),
    ),
)
CELLS = [[0, 0, 0, 50], [0, 0, 1, 3], [1, 1, 1, 40], [1, 0, 1, 2], [1, 0, 2, 1], [2, 2, 2, 4]]


def example(**changes):
    """A report as a pipeline would leave it."""
    steps = (
        StepProgress("Fetch", "Done", 100, "1.5", "aaaa", 90_900_000),
        StepProgress("adapt", "Cached", 100, "0", "found", 90_900_000),
        StepProgress("graph", "Done", 100, "8.1", "", 91_000_000),
        StepProgress("int8", "Done", 100, "2.0", "", 22_800_000),
        StepProgress("Evaluate", "Done", 100, "11.0", "100 samples"),
        StepProgress("Publish", "Done", 100, "0.1"),
    )
    result = Result(
        "Succeeded",
        "Published",
        artifact=Artifact(
            SMALL, 23_300_000, 22_800_000, SOURCE, 90_900_000, outputs=(Tensor("SCORES", "FP32", (3,)),), max_batch_size=1
        ),
        steps=steps,
        gates=(
            GateResult("enough", "Accuracy", "Pass", "0.94", "0.91", "0.97", "0.9", 100),
            GateResult("held", "AccuracyDrop", "Pass", "0.03", "0.001", "0.05", "0.06", 100),
            GateResult("fast", "LatencyP50Ratio", "Inconclusive", "0.6", "0.5", "", "0.55", 9, "0.6 spans it."),
        ),
        figures=Figures(
            cosine_mean="0.991", cosine_p5="0.97", cosine_min="0.81", accuracy="0.94", baseline_accuracy="0.97",
            samples=100, size_ratio="0.25083", baseline_p50_ms="9.5", p50_ms="4.75", speedup="2", speedup_low="1.8",
            speedup_high="2.2", batch_invariance="0.98",
        ),
        report="reports/x.json",
    )  # fmt: skip
    details = {
        "baseline": "sha256:" + "e" * 64,
        "sizeRatio": 0.25083,
        "steps": {"adapt": {"loss": {"steps": 40, "first": 1.791234, "last": 0.25}, "trainableShare": 0.5}},
        "latency": [
            {
                "batchSize": 1, "sequenceLength": 32, "baselineP50Ms": 9.5, "p50Ms": 4.75, "baselineP95Ms": 10.25,
                "p95Ms": 5.125, "speedup": 2.0, "speedupRange": [1.8, 2.2], "runs": 135,
            }
        ],
        "data": {
            "questions/test": {
                "samples": 100, "accuracy": 0.94, "macroF1": 0.913, "baselineMacroF1": 0.954,
                "confusion": {"labels": ["ABBR", "DESC", "ENTY"], "cells": CELLS},
            }
        },
    }  # fmt: skip
    sizes = [(ADAPTED, 90_900_000), (GRAPH, 91_000_000), (SMALL, 22_800_000)]
    return msgspec.structs.replace(facts.report(JOB, 2, sizes, result, details, "sha256:rows"), **changes)


class Page(HTMLParser):
    """The page as a browser would see it: elements must close, and every table's cells are kept as text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.text, self.tables, self.attributes = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text.append(data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def table(self, identity):
        """Rows by their first cell."""
        places = [v for t, k, v in self.attributes if t == "table" and k in ("id", "class")]
        return {row[0]: row[1:] for row in self.tables[places.index(identity)][1:]}


def test_the_page_shows_the_figures() -> None:
    page = Page(report.page(example()))
    before_after = page.table("comparison")
    assert before_after["Weights"] == ["90.90 MB", "22.80 MB", "74.9 % smaller; 23.30 MB with all files"]
    assert before_after["Accuracy"][:2] == ["0.97", "0.94"]
    assert before_after["Macro F1"][:2] == ["0.954", "0.913"]
    assert (
        before_after["Median latency"][:2] == ["9.5 ms", "4.75 ms"]
        and "1.8 to 2.2" in before_after["Median latency"][2]
    )
    assert "maxBatchSize 1" in before_after["Batch invariance"][2]
    gates = page.table("gates")
    assert "share of right answers: the baseline's minus the result's" in gates["held"][0]
    assert gates["enough"][1:5] == ["Pass", "0.94", "[0.91, 0.97]", "0.9"]
    assert gates["fast"][1:4] == ["Inconclusive", "0.6", "[0.5, –]"] and gates["fast"][-1] == "0.6 spans it."
    steps = page.table("steps")
    assert list(steps) == ["Fetch", "adapt", "graph", "int8", "Evaluate", "Publish"]
    assert steps["adapt"][:3] == ["Cached", "–", "90.90 MB"] and "loss.first 1.7912" in steps["adapt"][4]
    assert steps["int8"][:3] == ["Done", "2.0", "22.80 MB"]
    assert page.table("latency")["1 × 32"] == ["9.5", "4.75", "10.25", "5.125", "2", "1.8 to 2.2", "135"]


def test_the_page_shows_what_changed_in_the_answers() -> None:
    page = Page(report.page(example()))
    assert page.table("labels") == {
        "ABBR": ["53", "53", "50", "3", "0"],
        "DESC": ["43", "40", "42", "0", "2"],
        "ENTY": ["4", "4", "4", "0", "0"],
    }
    rows = next(t for t in page.tables if t[0][:3] == ["truth", "before", "after"])[1:]
    assert rows == [
        ["ABBR", "ABBR", "DESC", "3", "lost"],
        ["DESC", "ABBR", "DESC", "2", "won"],
        ["DESC", "ABBR", "ENTY", "1", "wrong both times"],
    ]


def test_the_page_shows_where_it_comes_from() -> None:
    text = report.page(example())
    page = Page(text)
    lineage = page.table("lineage")
    assert {name: row[1] for name, row in lineage.items()} == {
        "source": SOURCE,
        "adapt": ADAPTED,
        "graph": GRAPH,
        "int8": SMALL,
        "baseline": "sha256:" + "e" * 64,
        "artifact": SMALL,
    }
    assert json.loads(lineage["adapt"][2]) == {"data": "questions/train", "training": {"seed": 7}}
    assert page.table("seeds") == {"step adapt: training.seed": ["7"], "data questions: split": ["5"]}
    versions = page.table("versions")
    assert {"torch", "transformers", "peft", "onnx", "onnxruntime", "python", "optimodel"} <= set(versions)
    assert re.fullmatch(r"3\.\d+\.\d+", versions["python"][0]) and versions["threads"] == ["2"]
    assert "very-secret" not in text + report.card(example())


def test_the_plot_has_a_bar_for_each_stage_in_proportion() -> None:
    text = report.page(example())
    plot = text[text.index("Size and quality by step") :].partition("</svg>")[0]
    bars = [float(w) for w in re.findall(r'<rect [^>]*width="([\d.]+)"', plot)]
    assert [b / max(bars) for b in bars] == pytest.approx([x / 91.0 for x in (90.9, 90.9, 91.0, 22.8)], abs=1e-3)
    dots = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', plot)]
    assert len(dots) == 2 and dots[0][0] > dots[1][0] and dots[0][1] < dots[1][1]
    assert "accuracy 0.9700" in plot and "accuracy 0.9400" in plot


@pytest.mark.parametrize("cosine", ["", "0.991"])
def test_the_plot_has_no_dots_where_no_answers_were_compared(cosine) -> None:
    figures = Figures(cosine_mean=cosine, perplexity="12.5", baseline_perplexity="12.1", size_ratio="0.25")
    shown = report.page(example(result=msgspec.structs.replace(example().result, figures=figures)))
    assert shown.count("<title>cosine to the baseline") == (2 if cosine else 0)


def test_the_page_needs_nothing_from_elsewhere() -> None:
    text = report.page(example())
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "image", "use", "a", "form", "base"} & set(
        page.elements
    )
    assert not [a for a in page.attributes if a[1] in ("src", "href", "xlink:href", "action", "background", "style")]
    assert not [a for a in page.attributes if a[1].startswith("on")]
    assert "url(" not in text and "@import" not in text and "http:" not in text and "https:" not in text
    policy = next(v for t, k, v in page.attributes if k == "content" and "default-src" in v)
    assert "default-src 'none'" in policy and "script" not in policy


def hostile():
    """A report in which every text is an attack."""

    def poison(value, key=""):
        if isinstance(value, msgspec.Struct):
            return msgspec.structs.replace(value, **{k: poison(getattr(value, k), k) for k in value.__struct_fields__})
        if isinstance(value, dict):
            return {k: poison(v, k) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(poison(v, key) for v in value)
        return HOSTILE if isinstance(value, str) and key not in ("state", "verdict", "outcome") else value

    found = poison(example())
    found.details["steps"] = {HOSTILE: {HOSTILE: HOSTILE}}
    found.details["data"][HOSTILE] = {
        "samples": 1,
        "confusion": {"labels": [HOSTILE, HOSTILE], "cells": [[0, 0, 1, 1]]},
    }
    data = {HOSTILE: {"s3": HOSTILE, "split": {"seed": HOSTILE}}}
    first, *rest = found.lineage
    return msgspec.structs.replace(
        found,
        job=msgspec.structs.replace(found.job, data=data, tools={HOSTILE: HOSTILE}),
        lineage=(msgspec.structs.replace(first, settings={HOSTILE: {"seed": HOSTILE}}), *rest),
    )


def test_hostile_texts_are_shown_and_not_obeyed() -> None:
    harmless, page = Page(report.page(example())), Page(report.page(hostile()))
    assert set(page.elements) <= set(harmless.elements)
    allowed = {(t, k) for t, k, _ in harmless.attributes}
    assert {(t, k) for t, k, _ in page.attributes} <= allowed
    assert any(HOSTILE.replace("\u202e", "\ufffd") in text for text in page.text)
    assert page.table("seeds")


def test_hostile_texts_do_not_leave_their_cell_of_the_card() -> None:
    harmless, text = report.card(example()), report.card(hostile())
    outside = re.sub(r"\\.", "", text)
    assert not re.search(r"[<>]", outside) and "](" not in outside and "`" not in outside and "https:/" not in outside
    for rows in (harmless, text):
        table = [re.sub(r"\\.", "", line) for line in rows.splitlines() if line.startswith("|")]
        assert {line.count("|") for line in table} == {5, 7}


def test_the_card_says_what_the_model_is() -> None:
    text = report.card(example())
    head, _, body = text.removeprefix("---\n").partition("---\n")
    assert head.splitlines() == ["library_name: onnx", "pipeline_tag: text-classification", "tags: [optimodel, onnx]"]
    assert [line for line in body.splitlines() if line.startswith("#")] == [
        "# questions",
        "## How it was made",
        "## How well it does",
        "## Limits",
    ]
    assert "| Accuracy | 0.97 | 0.94 | 100 rows |" in body
    assert "| adapt | FineTune | 90.90 MB | data questions/train; training.seed 7 |" in body
    assert f"- Artifact: {SMALL}, 23.30 MB" in body
    assert "a batch of 1," in body and "questions/test (100 rows)" in body


def test_a_hub_is_named_as_the_base_model() -> None:
    job = msgspec.structs.replace(example().job, source={"huggingFace": ['org/"m"', "main"]})
    head = report.card(example(job=job)).split("---")[1]
    assert json.loads(re.search("base_model: (.*)", head)[1]) == 'org/"m"'


def test_missed_gates_are_told_on_both() -> None:
    missed = msgspec.structs.replace(example().result, outcome="Failed", reason="GateFailed", message="enough: missed")
    made = example(result=missed)
    page = Page(report.page(made))
    assert "Failed" in page.text and any("GateFailed. enough: missed" in text for text in page.text)
    assert "not published" in page.table("lineage") and "artifact" not in page.table("lineage")
    assert "did not pass its gates" in report.card(made) and "Artifact:" not in report.card(made)


def test_an_early_report_with_nothing_measured_is_a_page_too() -> None:
    bare = Report(1, SOURCE, Result("Failed", "GateFailed"))
    assert Page(report.page(bare)).table("lineage") == {"source": ["", SOURCE, ""]}
    assert "not measured on any data" in report.card(bare)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=8,
)


@given(notes=st.dictionaries(st.text(st.characters()), json_values, max_size=3), text=st.text(st.characters()))
def test_any_note_and_any_text_make_a_page(notes, text) -> None:
    """Steps note what they like; surrogates, controls and NaN are no reason to lose a report."""
    made = example()
    details = made.details | {"steps": {"adapt": notes, text: notes}, "more": notes}
    job = msgspec.structs.replace(made.job, model=text)
    found = example(details=details, job=job)
    assert Page(report.page(found).encode().decode()).table("steps")
    assert report.card(found).encode()


def test_the_three_lie_side_by_side_and_are_made_of_the_json(tmp_path) -> None:
    store = artifacts.open_store(Artifacts(s3=S3(f"file://{tmp_path}/store")), "team-a", {})
    report.leave(store, "reports/a-b.json", example())
    folder = tmp_path / "store" / "team-a" / "reports"
    assert sorted(p.name for p in folder.iterdir()) == ["a-b.html", "a-b.json", "a-b.md"]
    again = store.read("reports/a-b.json", Report)
    assert report.page(again) == (folder / "a-b.html").read_text()
    assert report.card(again) == (folder / "a-b.md").read_text()


def test_words_for_numbers() -> None:
    assert [megabytes(n) for n in (0, 1500, 99_999, 100_000, 22_800_000)] == [
        "0.00 kB",
        "1.50 kB",
        "100.00 kB",
        "0.10 MB",
        "22.80 MB",
    ]
    assert dict(flat({"a": {"b": 0.123456789, "c": [1, 2.5]}, "d": True, "e": None, "f": []})) == {
        "a.b": "0.12346", "a.c": "1, 2.5", "d": "yes", "e": "–", "f": "–",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["model", "namespace", "task"])
def test_the_facts_are_the_jobs(name) -> None:
    found: Job = facts.job(JOB, 2)
    assert getattr(found, name) == getattr(JOB, name)
    assert found.source == {"s3": "s3://models/minilm"} or "models/minilm" in json.dumps(found.source)
    assert isinstance(facts.lineage(JOB, [(SMALL, 1)] * 3)[0], Made)
