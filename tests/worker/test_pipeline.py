"""A recipe that trains, from a source without a head to a judged artifact: what it is compared with, and what is not done twice."""

from __future__ import annotations

import json
import random
import shutil

import msgspec
import pytest
from msgspec import structs
from tests import inputs
from tests.worker import tiny

from optimodel.api.search import Auto
from optimodel.api.spec import Gate
from optimodel.api.steps import Distill, FineTune, Prune, Quantize, Step, Training
from optimodel.worker.errors import Failure
from optimodel.worker.pipeline import Report

TRAINING = Training(epochs=12, batch_size=16, learning_rate="0.002", max_length=16)
ADAPT = Step("adapt", "FineTune", fine_tune=FineTune("d/train", training=TRAINING, freeze_embeddings=False))
SMALL = Step("small", "Distill", distill=Distill("d/train", keep_layers=(1,), training=TRAINING))
GRAPH = Step("graph", "Export")
INT8 = Step("int8", "Quantize")
GATES = (Gate("drop", "Accuracy", data="d/test", max_drop="1"), Gate("f1", "MacroF1", data="d/test", min="0"))


def write_rows(path, extra=()):
    chance = random.Random(5)
    starts = {"person": "who wrote", "place": "what is the capital of", "fish": "name a fish"}
    rows = [
        {"text": f"{start} word{chance.randrange(200)} word{chance.randrange(200)}", "label": label}
        for label, start in starts.items()
        for _ in range(60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *extra]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("recipe")
    tiny.save("bert", made / "tiny")
    write_rows(made / "rows.jsonl")
    (made / "store").mkdir()
    return made


def job(folder, *steps, **changes):
    return inputs.job(folder, *steps, gates=GATES, data=(inputs.dataset(folder, split=inputs.PARTS),), **changes)


def run(wanted, work):
    """The result, and the report's details."""
    result, store = inputs.run(wanted, work)
    return result, store.read(result.report, Report).details


def states(result):
    return {s.name: s.state for s in result.steps}


@pytest.mark.timeout(300)
def test_a_trained_and_compressed_model_against_what_it_was_before_compression(folder, tmp_path):
    result, details = run(job(folder, ADAPT, SMALL, GRAPH, INT8), tmp_path / "one")
    assert result.outcome == "Succeeded", result.message
    assert [(g.metric, g.verdict) for g in result.gates] == [("AccuracyDrop", "Pass"), ("MacroF1", "Pass")]
    assert (result.gates[0].samples, result.figures.samples) == (72, 72)
    assert float(result.figures.baseline_accuracy) > 0.8, "the baseline is the adapted model, not the source's"
    measured = details["data"]["d/test"]
    assert measured["confusion"]["labels"] == ["fish", "person", "place"]
    assert sum(cell[-1] for cell in measured["confusion"]["cells"]) == 72
    assert result.artifact.data_digest.startswith("sha256:")
    assert {"adapt", "small"} <= details["steps"].keys()

    pins = {"pinned_source": result.artifact.source_digest, "pinned_data": result.artifact.data_digest}
    again, kept = run(job(folder, ADAPT, SMALL, GRAPH, INT8, evaluation="e2", **pins), tmp_path / "two")
    assert again.artifact == result.artifact
    assert {s: states(again)[s] for s in ("adapt", "small", "graph", "int8")} == dict.fromkeys(
        ("adapt", "small", "graph", "int8"), "Cached"
    )
    assert not (tmp_path / "two" / "steps").exists(), "the baseline's graph was in the store too"
    assert kept["steps"] == details["steps"]

    shared, other = run(job(folder, ADAPT, GRAPH, evaluation="e3"), tmp_path / "three")
    assert states(shared)["adapt"] == "Cached"
    assert states(shared)["graph"] == "Cached", "it is the baseline of the longer recipe"
    assert other["baseline"] == shared.artifact.digest == details["baseline"]
    assert shared.gates[0].value == "0"

    write_rows(folder / "rows.jsonl", [{"text": f"who wrote word{i}", "label": "person"} for i in range(9)])
    with pytest.raises(Failure) as caught:
        run(job(folder, ADAPT, SMALL, GRAPH, INT8, evaluation="e4", **pins), tmp_path / "four")
    assert caught.value.reason == "DataChanged"
    fresh, _ = run(job(folder, ADAPT, GRAPH, evaluation="e5"), tmp_path / "five")
    assert states(fresh)["adapt"] == "Done"
    assert fresh.artifact.data_digest != result.artifact.data_digest


def test_on_a_machine_without_the_accelerator_its_speed_stays_unknown(folder, tmp_path):
    """What can be told without it is told: answers and size. A latency of this CPU would prove nothing of a GPU."""
    speed = Gate("speed", "LatencyP95Ms", max="1000")
    half = Step("half", "Quantize", quantize=Quantize("Float16"))
    wanted = job(folder, ADAPT, GRAPH, half, accelerator="CUDA", evaluation="gpu")
    result, details = run(msgspec.structs.replace(wanted, gates=(*GATES, speed)), tmp_path / "gpu")
    verdicts = {gate.name: gate for gate in result.gates}
    assert (verdicts["drop"].verdict, verdicts["speed"].verdict) == ("Pass", "Inconclusive")
    assert "run on the target's device" in verdicts["speed"].message
    assert (result.outcome, result.reason) == ("Failed", "GateInconclusive")
    assert result.figures.accuracy and not result.figures.p50_ms
    assert details["latency"] == [] and details["latencyMissing"] == "no CUDA in this Job"


def test_a_source_without_a_head_needs_a_fine_tune_first(folder, tmp_path):
    with pytest.raises(Failure) as caught:
        run(job(folder, SMALL, GRAPH), tmp_path / "w")
    assert caught.value.reason == "UnsupportedArchitecture"
    assert "FineTune" in caught.value.message


def test_an_equal_spec_reads_the_source_itself_and_works_only_where_it_says_something_else(folder, tmp_path):
    classifier = tiny.save("bert", tmp_path / "classifier", ["fish", "person", "place"])
    (tmp_path / "store").mkdir()
    wanted = inputs.job(tmp_path, GRAPH, source="classifier", data=())
    first, _ = inputs.run(wanted, tmp_path / "one")
    again, _ = inputs.run(wanted, tmp_path / "two")
    assert again.artifact == first.artifact
    assert states(again) == {"Fetch": "Done", "graph": "Cached", "Evaluate": "Cached", "Publish": "Cached"}

    shutil.rmtree(classifier)
    tiny.save("distilbert", classifier, ["fish", "person", "place"])
    other, _ = inputs.run(wanted, tmp_path / "three")
    assert other.artifact.source_digest != first.artifact.source_digest
    assert states(other)["graph"] == "Done"

    shutil.rmtree(classifier)
    lost, _ = inputs.run(structs.replace(wanted, pinned_source=other.artifact.source_digest), tmp_path / "four")
    assert lost.artifact == other.artifact, "what is pinned and known needs no source any more"


def test_a_verdict_holds_for_the_rows_it_was_judged_on(tmp_path):
    """The spec stays as it is, and so do the report's name and the bytes that the steps read."""
    tiny.save("bert", tmp_path / "classifier", ["fish", "person", "place"])
    (tmp_path / "store").mkdir()
    write_rows(tmp_path / "rows.jsonl", [{"text": f"who wrote word{n}", "label": "person"} for n in range(20)])
    wanted = inputs.job(tmp_path, GRAPH, source="classifier", gates=(Gate("alike", "CosineMean", min="0.9"),))
    first, store = inputs.run(wanted, tmp_path / "one")
    pinned = structs.replace(wanted, pinned_source=first.artifact.source_digest, pinned_data="")
    again, _ = inputs.run(pinned, tmp_path / "two")
    assert (again.figures, states(again)["Evaluate"]) == (first.figures, "Cached")

    write_rows(tmp_path / "rows.jsonl", [{"text": f"what is word{n}", "label": "place"} for n in range(30)])
    for work, found in (("three", wanted), ("four", pinned)):
        other, _ = inputs.run(found, tmp_path / work)
        assert (other.figures.samples, states(other)["graph"]) == (210, "Cached")
        assert states(other)["Evaluate"] == ("Done" if work == "three" else "Cached")

    old = structs.replace(store.read(first.report, Report), judged_on="")
    store.write(first.report, old)
    assert states(inputs.run(wanted, tmp_path / "five")[0])["Evaluate"] == "Done", (
        "nobody knows what that one was judged on"
    )


def in_turn(folder):
    """A job of three steps, in a folder that has all it needs."""
    tiny.save("bert", folder / "tiny", ["fish", "person", "place"])
    write_rows(folder / "rows.jsonl")
    (folder / "store").mkdir()
    return inputs.job(folder, Step("thin", "Prune", prune=Prune("Magnitude", "0.9")), GRAPH, INT8)


def test_a_job_of_some_steps_leaves_the_rest_to_the_next(tmp_path):
    """What two Jobs make in turn is what one makes; the second goes on from the bytes of the first, or not at all."""
    bare = in_turn(tmp_path)
    first, store = inputs.run(structs.replace(bare, until="thin"), tmp_path / "one")
    assert (first.outcome, first.reason, first.artifact) == ("Succeeded", "StepsDone", None)
    assert [s.state for s in first.steps] == ["Done", "Done", "Pending", "Pending", "Pending", "Pending"]
    assert first.pins.step == "thin" and store.read("reports/thin-graph-int8-e1.json", Report) is None

    floor, parts = Gate("f1", "MacroF1", min="0", data="d/test"), inputs.dataset(tmp_path, split=inputs.PARTS)
    search = {"steps": (bare.steps[0], GRAPH), "auto": Auto("d/train"), "gates": (floor,), "data": (parts,)}
    cut, _ = inputs.run(structs.replace(bare, until="thin", **search), tmp_path / "searching")
    assert states(cut) == {"Fetch": "Done", "thin": "Cached"} | dict.fromkeys(
        ("Search", "Evaluate", "Publish"), "Pending"
    )

    tiny.save("roberta", tmp_path / "tiny", ["fish", "person", "place"])
    pins = {"pinned_source": first.pins.source, "pinned_data": first.pins.data or None}
    with pytest.raises(Failure, match="no longer holds the bytes"):
        inputs.run(structs.replace(bare, **pins), tmp_path / "changed")
    tiny.save("bert", tmp_path / "tiny", ["fish", "person", "place"])
    second, _ = inputs.run(structs.replace(bare, **pins), tmp_path / "two")
    assert second.outcome == "Succeeded" and states(second)["thin"] == "Cached"
    other = structs.replace(bare, namespace="team-b")
    whole, _ = inputs.run(other, tmp_path / "whole")
    assert (whole.artifact.digest, whole.artifact.source_digest) == (second.artifact.digest, first.pins.source)


def test_jobs_of_a_revision_go_on_from_each_other_whatever_their_images_hold(tmp_path, monkeypatch):
    """Other versions of the tools make other bytes, so other revisions do not share them; one revision is not made twice."""
    wanted = in_turn(tmp_path)
    first, _ = inputs.run(structs.replace(wanted, until="thin"), tmp_path / "one")
    shared, _ = inputs.run(structs.replace(wanted, until="thin", revision="shares"), tmp_path / "shares")
    assert states(first)["thin"] == "Done" and states(shared)["thin"] == "Cached"
    whole, _ = inputs.run(structs.replace(wanted, revision="whole"), tmp_path / "whole")

    inputs.other_image(monkeypatch, tmp_path / "image", "peft")
    (tmp_path / "tiny").rename(tmp_path / "away")
    for revision in (wanted.revision, "shares"):
        rest = structs.replace(wanted, until="graph", pinned_source=first.pins.source, revision=revision)
        second, _ = inputs.run(rest, tmp_path / f"rest-{revision}")
        assert states(second)["Fetch"] == states(second)["thin"] == "Cached"
        assert second.pins.step == "graph", "it needs the source no more"
    again = structs.replace(wanted, revision="whole", evaluation="e2", pinned_source=first.pins.source)
    judged, _ = inputs.run(again, tmp_path / "judged")
    assert set(states(judged).values()) == {"Cached", "Done"} and judged.artifact.digest == whole.artifact.digest
    assert [name for name, state in states(judged).items() if state == "Done"] == ["Evaluate", "Publish"]
    (tmp_path / "away").rename(tmp_path / "tiny")
    apart, _ = inputs.run(structs.replace(wanted, until="thin", revision="other"), tmp_path / "other")
    assert states(apart)["thin"] == "Done"
