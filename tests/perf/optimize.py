"""`python -m tests.perf.optimize [--seeds N] [--only NAME...]`: the table of docs/benchmarks.md, MiniLM-L6 on TREC-6.

Drives the worker's own steps. What a step made is kept in a folder named after everything that went into it, so that a run that
was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from devcluster.paths import CACHE
from tests import assets
from tests.perf import compressions
from tests.perf.compressions import BASELINE, TOGETHER

from optimodel.api.sources import PVC, Dataset, Part, Split
from optimodel.api.spec import Batching, Shape
from optimodel.api.steps import Step
from optimodel.artifacts.manifest import scan
from optimodel.recipes import identity
from optimodel.worker import steps, system
from optimodel.worker.data import dataset
from optimodel.worker.evidence.latency import measure
from optimodel.worker.inference.answers import Answerer
from optimodel.worker.source import weight_bytes

TASK = "TextClassification"
SPLIT = Split((Part("train", 60), Part("validation", 20), Part("test", 20)), seed=0)
SHAPE = Shape(1, 32)
RESAMPLES = 4_000
BARS = {"smaller": 0.75, "faster": 3.0, "kept": 0.97, "kept, lower bound": 0.955}


@dataclass(frozen=True)
class Quality:
    """Accuracy over seeds, and its paired loss against the baselines of the same seeds with a 95 % interval."""

    accuracy: float
    drop: float
    low: float
    high: float


@dataclass(frozen=True)
class Speed:
    """Milliseconds at batch 1 x 32 tokens, and how often as fast as the baseline in interleaved blocks."""

    p50_ms: float
    speedup: float
    low: float
    high: float


class Workshop:
    """Makes recipes' results in `folder`, or finds them there."""

    def __init__(self, folder: Path, threads: int, part: str) -> None:
        self.folder, self.threads, self.part = folder, threads, part
        self._parts: dict[str, list[dataset.Row]] = {}

    def rows(self, name: str) -> list[dataset.Row]:
        """The rows of `questions/PART`."""
        if name not in self._parts:
            dataset_name, _, part = name.partition("/")
            questions = Dataset(dataset_name, pvc=PVC("claim", "rows.jsonl"))
            everything = dataset.load(questions, {}, self.folder)
            self._parts[name] = dataset.part(everything, SPLIT, part, dataset_name)
        return self._parts[name]

    @cached_property
    def _source(self) -> str:
        return scan(assets.minilm()).digest

    def make(self, recipe: Sequence[Step]) -> Path:
        """The folder of the recipe's last step."""
        before, found = self._source, assets.minilm()
        for step in recipe:
            form = [before, identity.canonical_step(step), steps.REGISTRY[step.type].revision]
            before = identity.digest(form, 16)
            out = self.folder / "made" / before
            if not out.exists():
                self._run(step, found, out)
            found = out
        return found

    def _run(self, step: Step, source: Path, out: Path) -> None:
        began = time.monotonic()
        checkpoint = self.folder / "checkpoints" / out.name
        scratch = self.folder / "scratch" / out.name
        scratch.mkdir(parents=True, exist_ok=True)
        context = steps.Context(TASK, self.threads, scratch, lambda percent, word: None, self.rows, checkpoint)
        steps.run(step, source, out, context)
        for done in (scratch, checkpoint):
            shutil.rmtree(done, ignore_errors=True)
        print(f"  {step.name}: {time.monotonic() - began:.0f} s", flush=True)

    def right(self, folder: Path) -> Any:
        """Which rows of the part the artifact answers right, each in a batch of its own: 0 or 1."""
        kept = self.folder / "answers" / f"{folder.name}-{self.part}.npy"
        if not kept.exists():
            kept.parent.mkdir(exist_ok=True)
            answerer = Answerer(folder, self.threads, Batching())
            labels = answerer.description.labels
            found = [labels[answerer.alone(r.text).argmax()] == r.label for r in self.rows(f"questions/{self.part}")]
            np.save(kept, np.array(found, np.int8))
        return np.load(kept)


def write_questions(work: Path) -> None:
    """The dataset as a file, where a Job would find its claim."""
    lines = [json.dumps({"text": text, "label": label}) for label, text in assets.trec()]
    (work / "questions").mkdir(parents=True, exist_ok=True)
    (work / "questions" / "rows.jsonl").write_text("\n".join(lines))


def quality(base: Any, best: Any) -> Quality:
    """`base` and `best` say which rows were right, shape (seeds, rows). The interval is a percentile bootstrap over rows and seeds,
    drawn for both alike (Efron & Tibshirani 1993)."""
    chance = np.random.default_rng(0)
    lost = base.astype(float) - best
    seeds, rows = lost.shape
    by_seed = chance.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
    drops = [(weights @ lost)[chance.integers(0, rows, rows)].mean() for weights in by_seed]
    low, high = np.quantile(drops, [0.025, 0.975])
    return Quality(float(best.mean()), float(lost.mean()), float(low), float(high))


def speed(base: Path, best: Path, threads: int) -> Speed:
    """Latency of `best` against `base`, in turns."""
    before, after = (Answerer(folder, threads, Batching()) for folder in (base, best))
    (found,) = measure(before, after, [SHAPE], lambda _: None)
    speedups = sorted(1 / ratio for ratio in found.ratios)
    return Speed(found.p50s[1], median(speedups), speedups[0], speedups[-1])


def row(name: str, bytes: int, whole: int, q: Quality, s: Speed) -> str:
    """A line of the table; a loss is in points of accuracy."""
    size = f"{bytes / 1e6:.1f} | {1 - bytes / whole:.0%}"
    fast = f"{s.p50_ms:.2f} | {s.speedup:.2f} ({s.low:.2f} to {s.high:.2f})"
    loss = f"{100 * q.accuracy:.1f} | {100 * q.drop:+.1f} ({100 * q.low:+.1f} to {100 * q.high:+.1f})"
    return f"| {name} | {size} | {fast} | {loss} |"


def verdict(size: float, whole: float, base: float, q: Quality, s: Speed) -> list[str]:
    """The headline's bars, one a line."""
    found = (1 - size / whole, s.speedup, 1 - q.drop / base, 1 - q.high / base)
    lines = zip(BARS.items(), found, strict=True)
    return [f"{what}: {value:.3f}, wanted {bar}: {'met' if value >= bar else 'MISSED'}" for (what, bar), value in lines]


def make(work: Path, threads: int, part: str, names: Sequence[str], seed: int) -> dict[str, tuple[Path, Any]]:
    """Each recipe's artifact of one seed, and which rows it answers right."""
    shop, found = Workshop(work, threads, part), {}
    for name in names:
        folder = shop.make(compressions.recipes(seed)[name])
        found[name] = folder, shop.right(folder)
        print(f"seed {seed}: {name}: {found[name][1].mean():.4f} right", flush=True)
    return found


def report(names: Sequence[str], by_seed: Sequence[dict[str, tuple[Path, Any]]], part: str, threads: int) -> None:
    """Time seed 0 of every recipe, and print the table."""
    made = {name: [found[name][0] for found in by_seed] for name in names}
    size = {name: max(map(weight_bytes, folders)) for name, folders in made.items()}
    correct = {name: np.stack([found[name][1] for found in by_seed]) for name in names}
    count = correct[BASELINE].shape
    print(f"\n{count[1]} rows of {part}, {count[0]} seeds, {threads} thread(s), ONNX Runtime on the CPU\n")
    print("| recipe | MB | smaller | p50 ms | speed-up (range) | accuracy % | points lost (95 % interval) |")
    print("|---|---|---|---|---|---|---|")
    verdicts = []
    for name in names:
        s = speed(made[BASELINE][0], made[name][0], threads)
        q = quality(correct[BASELINE], correct[name])
        print(row(name, size[name], size[BASELINE], q, s), flush=True)
        if name in TOGETHER:
            base = float(correct[BASELINE].mean())
            verdicts += [name, *(f"  {x}" for x in verdict(size[name], size[BASELINE], base, q, s))]
    print("\n".join(["", *verdicts]))


def main() -> None:
    """Make every recipe with every seed, then measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[], help="rows to make besides the baseline")
    parser.add_argument("--part", default="test", choices=["validation", "test"], help="validation while choosing")
    parser.add_argument("--jobs", type=int, default=system.cpus(), help="seeds made at once")
    parser.add_argument("--threads", type=int, default=1, help="of the latency measurement")
    parser.add_argument("--work", type=Path, default=CACHE / "bench-optimize")
    asked = parser.parse_args()
    names = [n for n in compressions.recipes(0) if not asked.only or n in (BASELINE, *asked.only)]
    every = partial(make, asked.work, max(1, system.cpus() // asked.jobs), asked.part, names)
    write_questions(asked.work)
    with ProcessPoolExecutor(asked.jobs, get_context("spawn")) as pool:
        by_seed = list(pool.map(every, range(asked.seeds)))
    report(names, by_seed, asked.part, asked.threads)


if __name__ == "__main__":
    main()
