"""`auto` on a real, tiny encoder: it ends with a model that is at least as good as plain int8, and a killed search goes on."""

from __future__ import annotations

import json
import random
import re
import signal
import time
from pathlib import Path

import msgspec
import pytest
from tests import inputs
from tests.seaweed import free_port
from tests.worker import forks, jobs, tiny

from optimodel.api.contract import JobInput, Result
from optimodel.api.search import Auto
from optimodel.api.sources import S3, Artifacts, Part, Split
from optimodel.api.spec import Gate, Shape
from optimodel.api.steps import Prune, Quantize, Step
from optimodel.recipes.search import Candidate, Observation, feasible
from optimodel.worker import steps
from optimodel.worker.data.dataset import Row
from optimodel.worker.errors import Failure
from optimodel.worker.pipeline import Report
from optimodel.worker.search import Bench, Record
from optimodel.worker.source import weight_bytes

SPLIT = Split((Part("train", 50), Part("validation", 25), Part("test", 25)))
AUTO = Auto("d/validation", "Size", train="d/train", prune=("Vocabulary",), trials=6)
ALIKE = Gate("alike", "CosineMean", data="d/test", min="0.95")
ALIKE_AT_ALL = Gate("alike", "CosineMean", data="d/test", min="-1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("search")
    tiny.save("bert", made / "tiny")
    tiny.save("bert", made / "classifier", ["fish", "place"])
    chance = random.Random(5)
    rows = [{"text": f"what is word{chance.randrange(60)} of word{number % 60}"} for number in range(320)]
    (made / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (made / "store").mkdir()
    run(job(made, "graph000", auto=None, gates=()), made / "work")
    return made


def job(folder: Path, revision: str, **changes: object) -> JobInput:
    given = {
        "revision": revision,
        "task": "TextEmbedding",
        "auto": AUTO,
        "gates": (ALIKE,),
        "data": (inputs.dataset(folder, split=SPLIT),),
        "shapes": (Shape(1, 16), Shape(4, 16)),
    }
    return inputs.job(folder, Step("graph", "Export"), **(given | changes))


def run(wanted: JobInput, work: Path) -> tuple[Result, Report]:
    result, store = inputs.run(wanted, work)
    report = store.read(result.report, Report)
    assert report is not None
    return result, report


def recorded(folder: Path) -> list[object]:
    found = sorted((folder / "store").rglob("searches/*.json"))
    return list(msgspec.json.decode(found[0].read_bytes(), type=Record).findings) if found else []


def states(result: Result) -> dict[str, str]:
    return {step.name: step.state for step in result.steps}


@pytest.mark.timeout(300)
def test_a_killed_search_goes_on_and_ends_no_worse_than_plain_int8(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wanted = job(folder, "killed00")
    running = jobs.start(wanted, tmp_path / "one", {})
    deadline = time.monotonic() + 240
    while len(recorded(folder)) < 2:
        assert running.process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    running.process.kill()
    running.process.wait()
    before = recorded(folder)
    capfd.readouterr()
    result, _ = run(wanted, tmp_path / "two")
    log = capfd.readouterr().out
    after = recorded(folder)
    assert after[: len(before)] == before, "seconds and all: known trials were not measured again"
    assert f"Search: {len(before)} trials are known" in log
    search = result.search
    assert search is not None and search.trials == 6 and search.feasible >= 1, log
    tried = {o.candidate: o for o in after}  # type: ignore[attr-defined]
    assert feasible(tried[search.winner])
    assert tried[search.winner].weights_bytes <= tried["dynamic-int8"].weights_bytes
    assert result.outcome == "Succeeded" and result.artifact is not None, result.message
    assert result.artifact.weights_bytes == tried[search.winner].weights_bytes, "what was chosen is what was made"
    assert [s.name for s in result.steps][:2] == ["Fetch", "Search"] and states(result)["graph"] in ("Cached", "Done")

    again, report = run(job(folder, "killed00", evaluation="e2"), tmp_path / "three")
    assert again.search == search and states(again)["Search"] == "Cached", "judged anew, nothing was tried again"
    assert again.artifact == result.artifact
    same, _ = run(job(folder, "killed00", evaluation="e2"), tmp_path / "four")
    assert (same.artifact, same.search) == (again.artifact, search)
    assert [s.name for s in same.steps] == [s.name for s in again.steps]
    assert [s.state for s in same.steps] == ["Done", *["Cached"] * (len(same.steps) - 1)], "only the source is read"
    told = report.details["search"]
    assert search.winner in told["front"] and len(told["trials"]) == 6
    assert [made.name for made in report.lineage] == [s.name for s in again.steps][2:-2]
    page = next((folder / "store").rglob("killed00-e2.html")).read_text()
    assert search.winner in page and "Pareto" in page


def holds(store: Path) -> set[str]:
    """What lies there, but for the reports, which tell latencies."""
    names = {str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()}
    return {name for name in names if "/reports/" not in name}


@pytest.mark.timeout(300)
def test_a_search_that_is_killed_while_it_trains_goes_on_from_a_checkpoint(
    folder: Path, tmp_path: Path, workers: forks.Server
) -> None:
    auto = Auto("d/validation", "Size", train="d/train", prune=("Layers",), trials=8)

    def worker(store: str, after: int = 0) -> tuple[int, Result | None, str]:
        (tmp_path / store).mkdir(exist_ok=True)
        place = Artifacts(s3=S3(f"file://{tmp_path}/{store}"))
        wanted = job(folder, "trained0", auto=auto, gates=(ALIKE_AT_ALL,), artifacts=place)
        work, log = tmp_path / f"work-{store}-{after}", tmp_path / f"{store}-{after}.log"
        work.mkdir()
        code = workers.run(forks.Order(str(log), jobs.environment(wanted, work, free_port()), after=after))
        left = work / "termination-log"
        return code, msgspec.json.decode(left.read_bytes(), type=Result) if left.exists() else None, log.read_text()

    code, calm, log = worker("calm")
    assert code == 0 and calm is not None and calm.search is not None, log
    assert calm.search.winner.startswith("Layers pruned, "), calm.search.reason
    half = re.search(r"Search: loss .* at step 30 of 60 \(moment (\d+)\)", log)
    assert half, log
    code, _, log = worker("killed", int(half[1]))
    assert code == -signal.SIGKILL and "at step 29 of 60" in log
    code, ended, log = worker("killed")
    assert code == 0 and ended is not None, log
    assert "auto-layers: goes on from a checkpoint" in log and "Search: 7 trials are known" in log
    assert int(re.findall(r"at step (\d+) of 60", log)[0]) > 30 - forks.INTERVAL
    assert (ended.search, ended.artifact) == (calm.search, calm.artifact)
    assert holds(tmp_path / "killed") == holds(tmp_path / "calm"), "the same bytes, and no checkpoint is left"


@pytest.mark.timeout(300)
def test_finalists_are_timed_in_turn_and_a_job_that_was_killed_before_that_does_no_more(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    place = Artifacts(s3=S3(f"file://{store}"))
    auto = Auto("d/validation", "Cost", train="d/train", trials=3)
    wanted = job(folder, "final000", auto=auto, gates=(ALIKE_AT_ALL,), artifacts=place)
    run(wanted, tmp_path / "one")
    (path,) = store.rglob("searches/*.json")
    trials = [f for f in msgspec.json.decode(path.read_bytes(), type=Record).findings if isinstance(f, Observation)]
    level = tuple(msgspec.structs.replace(o, stage="Judged", latency=0.5, value=0.5) for o in trials)
    path.write_bytes(msgspec.json.encode(Record(level)))
    for report in store.rglob("reports/*"):
        report.unlink()
    capfd.readouterr()
    result, report = run(wanted, tmp_path / "two")
    log = capfd.readouterr().out
    assert "Search: 3 trials are known" in log and "Search: the best 3 in turn: " in log
    assert not any(f"Search: {o.candidate}: " in log for o in level), "no trial again"
    final = report.details["search"]["final"]
    assert sorted(final["candidates"]) == sorted(o.candidate for o in level)
    assert [len(values) for values in final["values"]] == [15] * 3 and final["seconds"] < 100
    assert all(value > 0 for values in final["values"] for value in values)
    assert "3 were timed in turn" in result.search.reason and result.search.trials == 3
    again, _ = run(msgspec.structs.replace(wanted, evaluation="e2"), tmp_path / "three")
    assert (again.search, states(again)["Search"]) == (result.search, "Cached"), "remembered as trials are"
    assert not list((tmp_path / "two").rglob("finalist-*"))


@pytest.mark.timeout(300)
def test_where_nothing_is_feasible_the_baseline_is_kept_and_no_gate_of_cost_rejects_it(
    folder: Path, tmp_path: Path
) -> None:
    small = Step("small", "Prune", prune=Prune("FFN", "0.5"))
    auto = Auto("d/validation", "Throughput", trials=2)
    fast = Gate("fast", "LatencyP50Ratio", max="0.001")
    wanted = job(folder, "nothing0", steps=(small, Step("graph", "Export")), auto=auto, gates=(ALIKE_AT_ALL, fast))
    result, report = run(wanted, tmp_path / "work")
    assert (result.outcome, result.reason) == ("Succeeded", "NoFeasibleRecipe"), result.message
    assert result.search is not None and (result.search.winner, result.search.feasible) == ("", 0)
    assert result.search.reason.endswith("The budget ended the search."), "of five candidates it tried two"
    assert {g.name: g.verdict for g in result.gates}["fast"] != "Pass"
    assert result.artifact is not None and report.details["baseline"] == result.artifact.digest
    assert [made.name for made in report.lineage] == ["graph"], "what was pruned is no part of it"
    assert all(t["stage"] == "Timed" or t["gates"] for t in report.details["search"]["trials"])


def test_sensitivity_has_a_figure_for_each_part(folder: Path, tmp_path: Path) -> None:
    graph = tmp_path / "graph"
    context = tiny.context("TextEmbedding", tmp_path)
    steps.run(Step("graph", "Export"), folder / "tiny", graph, context)
    rows = [Row(f"what is word{n}") for n in range(20)]
    wanted = job(folder, "parts000")
    bench = Bench(wanted, AUTO, tmp_path, 1, weight_bytes(graph), graph, lambda *_: graph, lambda name: rows)
    int4 = Candidate("weights-int4", quantize=Quantize("WeightOnly", bits=4))
    found = {part.name: part for part in bench.rank(int4, lambda *_: None).parts}
    assert found.keys() == {"Embeddings", "Attention", "AttentionOutput", "FFNUp", "FFNDown"}
    assert all(part.drop > 0 and part.bytes > 0 for part in found.values())


def test_what_a_search_cannot_work_with_is_said(folder: Path, tmp_path: Path) -> None:
    unlabelled = Gate("right", "MacroF1", data="d/test", min="0.1")
    for number, (changes, reason) in enumerate(
        (
            ({"shapes": (Shape(1, 500),)}, "ShapesTooLong"),
            ({"auto": Auto("d/test")}, "DataNotHeldOut"),
            ({"gates": (unlabelled,), "task": "TextClassification", "source": "classifier"}, "LabelMissing"),
        )
    ):
        with pytest.raises(Failure) as caught:
            run(job(folder, f"refused{number}", **changes), tmp_path / str(number))
        assert caught.value.reason == reason


def test_a_job_in_another_image_goes_on_with_the_search_of_its_revision(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other revisions, whose candidates such an image would make otherwise, search for themselves."""
    auto = msgspec.structs.replace(AUTO, trials=1, seed=7)
    wanted = job(folder, "images00", auto=auto, gates=(ALIKE_AT_ALL,))
    first, _ = inputs.run(msgspec.structs.replace(wanted, until="graph"), tmp_path / "one")
    inputs.other_image(monkeypatch, tmp_path / "image", "numpy")
    rest = msgspec.structs.replace(wanted, pinned_source=first.pins.source)
    found = {
        revision: states(run(msgspec.structs.replace(rest, revision=revision), tmp_path / revision)[0])["Search"]
        for revision in ("images00", "images01")
    }
    assert states(first)["Search"] == "Done" and found == {"images00": "Cached", "images01": "Done"}


def test_a_model_that_is_served_one_by_one_is_judged_so_also_where_shapes_have_no_lengths() -> None:
    """Of images: shapes of batch 1 and 8, and the answers depend on the batch."""
    bench = Bench.__new__(Bench)
    bench.auto, bench.shapes, bench.base_bytes = (
        msgspec.structs.replace(AUTO, objective="Throughput"),
        (Shape(1, 0), Shape(8, 0)),
        1,
    )
    alone = {"batchSize": 1, "speedup": 2.0, "p50Ms": 5.0, "baselineP50Ms": 10.0}
    eight = {"batchSize": 8, "speedup": 4.0, "p50Ms": 8.0, "baselineP50Ms": 32.0}
    assert bench._costs([alone, eight], 1, invariant=True) == (0.5, 0.25)
    assert bench._costs([alone, eight], 1, invariant=False) == (0.5, 1.25)
