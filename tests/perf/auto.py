"""`python -m tests.perf.auto [--objectives O...] [--prune P...]`: `auto` against the recipes of the chart, MiniLM-L6 on TREC-6.

The source is the fine-tuned model of `tests.perf.optimize`, seed 0. Runs whole Jobs of the worker in one store: what a Job was stopped
at is gone on with, and steps are shared. The searches go first, so that they find no training of a recipe's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
from devcluster.paths import CACHE
from tests import inputs
from tests.perf import compressions, optimize
from tests.perf.compressions import BASELINE, EXPORT
from tests.perf.optimize import SHAPE, SPLIT, TASK, Speed

from optimodel.api.contract import JobInput, Result
from optimodel.api.durations import seconds
from optimodel.api.search import Auto, Objective
from optimodel.api.sources import S3, Artifacts, Dataset, Source
from optimodel.api.spec import Batching, Gate, Shape
from optimodel.api.steps import Step
from optimodel.recipes.gates import Measurement, interval
from optimodel.recipes.intervals import Interval
from optimodel.worker.evidence.latency import compared
from optimodel.worker.inference.answers import Answerer
from optimodel.worker.pipeline import Report
from optimodel.worker.source import weight_bytes

NAMED = ("cpu-int8", "cpu-small", *compressions.LIBRARY)
"""Recipes of the chart's library for this task, without the fine-tuning that some begin with."""
FLOOR = Gate("accuracy", "Accuracy", data="questions/test", max_drop="0.028")
"""97 % of the fine-tuned model's accuracy of 0.94 are kept, with 95 % confidence."""
SHAPES = (SHAPE, Shape(8, 32))
ROUNDS = 25


@dataclass(frozen=True)
class Made:
    """What a Job ended with, its artifact and that of the baseline; the seconds and the trials that were measured anew, if it searched."""

    result: Result
    folder: Path
    baseline: Path
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether the artifact passes the floor on rows that nothing has seen."""
        return all(gate.verdict == "Pass" for gate in self.result.gates)


class Jobs:
    """Jobs on the fine-tuned model, in `work`, held to one floor."""

    def __init__(self, work: Path, source: Path, floor: Gate) -> None:
        self.work, self.source, self.floor = work, source, floor
        (work / "store").mkdir(exist_ok=True)

    def run(self, name: str, steps: Sequence[Step], auto: Auto | None = None) -> Made:
        """To its end, whatever its gates say."""
        job = JobInput(
            model="questions",
            namespace="bench",
            revision=name.lower(),
            evaluation="e1",
            task=TASK,
            source=Source(s3=S3(f"file://{self.source}")),
            artifacts=Artifacts(s3=S3(f"file://{self.work}/store")),
            steps=tuple(steps),
            auto=auto,
            gates=(self.floor,),
            data=(Dataset("questions", s3=S3(f"file://{self.work}/questions/rows.jsonl"), split=SPLIT),),
            shapes=SHAPES,
        )
        with TemporaryDirectory(dir=self.work) as scratch:
            result, store = inputs.run(job, Path(scratch))
        report = store.read(result.report, Report)
        assert report is not None and result.artifact is not None, result.message
        folders = [self.work / "made" / str(d)[7:23] for d in (result.artifact.digest, report.details["baseline"])]
        for folder, digest in zip(folders, (result.artifact.digest, report.details["baseline"]), strict=True):
            if not folder.exists():
                store.fetch(digest, folder)
        return Made(result, folders[0], folders[1], report.details.get("search", {}).get("seconds", 0.0))


def searched(objective: Objective, prune: Sequence[str]) -> Auto:
    """What a search is asked."""
    return Auto("questions/validation", objective, "questions/train", tuple(prune))  # type: ignore[arg-type]


def share(ours: Path, theirs: Path) -> Interval:
    """What the one takes of the other's time, round by round: the median with its 95 % interval."""
    sides = [(Answerer(folder, 1, Batching()), SHAPE) for folder in (ours, theirs)]
    ratios = tuple(one / other for one, other in compared(sides, ROUNDS))
    found = interval(Measurement("Quantile", ratios, 0.5), 0.95)
    assert found is not None
    return found


def verdict(objective: Objective, name: str, auto: Made, named: dict[str, Made], speeds: dict[str, Speed]) -> list[str]:
    """The winner against the best named recipe that holds the floor, timed in turn with it, and its budget."""
    held = {n: made for n, made in named.items() if made.holds}
    sizes = {n: weight_bytes(made.folder) for n, made in held.items()}
    if objective == "Size":
        best = min(held, key=lambda n: sizes[n])
        ratio = weight_bytes(auto.folder) / sizes[best]
        part = Interval(ratio, ratio, ratio, 1)
    else:
        best = max(held, key=lambda n: speeds[n].speedup)
        part = share(auto.folder, held[best].folder)
    asked, found = searched(objective, ()), auto.result.search
    assert found is not None
    same = auto.result.artifact == held[best].result.artifact  # whose time differs from itself by noise alone
    good = "met" if auto.holds and (same or part.low <= 1) else "MISSED"
    spread = f"{part.value:.3f} ({part.low:.3f} to {part.high:.3f})"
    return [
        f"{name}: {found.reason}",
        f"  {spread} of {best}'s, wanted 1 or less{', the same bytes' if same else ''}, floor {'held' if auto.holds else 'missed'}: {good}",
        f"  {found.trials} of {asked.trials} trials, {auto.seconds / 60:.1f} of {seconds(asked.timeout) / 60:.0f} minutes",
    ]


def main() -> None:
    """Search for each objective, run every named recipe, then measure all on the test part and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objectives", nargs="*", default=["Latency", "Size"], choices=["Latency", "Size"])
    parser.add_argument("--prune", nargs="*", default=["Layers"], help="what auto.prune allows")
    parser.add_argument(
        "--max-drop", default=FLOOR.max_drop, help="the floor: accuracy that may be lost, with 95 %% confidence"
    )
    parser.add_argument("--work", type=Path, default=CACHE / "bench-optimize")
    asked = parser.parse_args()
    optimize.write_questions(asked.work)
    shop = optimize.Workshop(asked.work, 1, "test")
    floor = msgspec.structs.replace(FLOOR, max_drop=asked.max_drop)
    jobs = Jobs(asked.work, shop.make((compressions.adapt(0),)), floor)
    ours = {
        f"auto, {o}": jobs.run(f"auto-{o}-{'-'.join(asked.prune)}", (EXPORT,), searched(o, asked.prune))
        for o in asked.objectives
    }
    named = {
        name: jobs.run(name, [step for step in compressions.named(name, 0) if step.type != "FineTune"])
        for name in NAMED
    }
    every = {BASELINE: next(iter(named.values())), **named, **ours}
    speeds = {}
    print(f"\n{len(shop.rows('questions/test'))} rows of test, 1 seed, 1 thread, ONNX Runtime on the CPU\n")
    print("| recipe | MB | smaller | p50 ms | speed-up (range) | accuracy % | points lost (95 % interval) |")
    print("|---|---|---|---|---|---|---|")
    for name, made in every.items():
        folder = made.baseline if name == BASELINE else made.folder
        speeds[name] = optimize.speed(made.baseline, folder, 1)
        right = [np.stack([shop.right(each)]) for each in (made.baseline, folder)]
        whole, size = weight_bytes(made.baseline), weight_bytes(folder)
        print(optimize.row(name, size, whole, optimize.quality(*right), speeds[name]), flush=True)
    print()
    for objective in asked.objectives:
        name = f"auto, {objective}"
        print("\n".join(verdict(objective, name, ours[name], named, speeds)))


if __name__ == "__main__":
    main()
