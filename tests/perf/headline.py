"""`make bench-headline`: MiniLM-L6 on TREC-6 in the cluster, by the library's recipes, each seed an object of its own.

Every object is applied, compressed, proved and served as any user's, and then asked the questions of the test part over HTTP. What a
seed was found to answer is kept in the work folder, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import numpy as np
from demo import clients, stage
from devcluster.paths import CACHE
from tests import assets
from tests.e2e import kit
from tests.perf import compressions, optimize
from tests.perf.compressions import BASELINE
from tests.perf.optimize import Speed

from optimodel.api.steps import Step

PLACE = "headline"
"""The namespace, and the prefix in the store."""
RECIPES = ("encoder-distil-int8", "encoder-distil-ffn-int8", "encoder-tiny-int8")
GATES = [
    {"name": "size", "metric": "SizeRatio", "max": "0.25"},
    {"name": "faster", "metric": "LatencyP50Ratio", "max": "0.3333"},
]
TRAINED = ("FineTune", "Distill", "Prune")
JOBS = {"resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "4Gi"}}}
READY_S = 3600
AT_ONCE = 8


class Found(msgspec.Struct, frozen=True):
    """What an object came to: the gates of its status, seconds of its steps, and which questions its pods answered right."""

    gates: dict[str, dict[str, Any]]
    seconds: dict[str, str]
    right: tuple[int, ...]


def spec(house: kit.House, name: str, recipe: str, seed: int) -> kit.Obj:
    """An object as a user writes it: the recipe, with this seed in its trainings, or the fine-tuned model alone."""
    split = {"seed": 0, "parts": [{"name": p.name, "percent": p.percent} for p in optimize.SPLIT.parts]}
    target = {"shapes": [{"batchSize": 1, "sequenceLength": 32}]}
    asked: kit.Obj = {"target": target, "podTemplate": JOBS, "timeout": "3h"}
    if recipe == BASELINE:
        asked["steps"] = [_written(step) for step in (compressions.adapt(seed), compressions.EXPORT)]
    else:
        given = {"train": compressions.TRAIN, "test": "questions/test", "max-drop": "0.045"}
        asked |= {"recipeRef": {"kind": "ClusterOptimizationRecipe", "name": recipe}, "parameters": given}
        asked["gates"] = GATES
        if seed:
            asked["steps"] = [_written(step) for step in compressions.named(recipe, seed) if step.type in TRAINED]
    data = [{"name": "questions", "s3": stage.s3(f"{PLACE}/questions/rows.jsonl"), "split": split}]
    made = kit.model(house.namespace, name, "", task=optimize.TASK, data=data, optimization=asked)
    made["spec"] |= {"source": {"s3": stage.s3(f"{PLACE}/minilm")}, "artifacts": {"s3": stage.s3(f"{PLACE}/artifacts")}}
    return made


def _written(step: Step) -> kit.Obj:
    return dict(msgspec.to_builtins(step))


async def ask(url: str, name: str, rows: Sequence[tuple[str, str]]) -> tuple[int, ...]:
    """Which of the questions, as text and label, the served model answers right: 0 or 1."""
    labels = sorted({label for label, _ in assets.trec()})
    limit = asyncio.Semaphore(AT_ONCE)
    async with clients.Http(url, name, output="SCORES") as client:

        async def one(text: str, label: str) -> int:
            async with limit:
                return int(labels[int(np.argmax(await client.ask(text)))] == label)

        return tuple(await asyncio.gather(*(one(*row) for row in rows)))


def run(house: kit.House, work: Path, rows: Sequence[tuple[str, str]], recipe: str, seed: int) -> Found:
    """Apply, wait until it serves, and ask; or what was found before."""
    name = f"{'whole' if recipe == BASELINE else recipe}-{seed}"
    kept = work / f"{name}.json"
    if not kept.exists():
        began = time.monotonic()
        house.apply(spec(house, name, recipe, seed))
        status = house.wait_ready(name, READY_S)["status"]
        right = asyncio.run(ask(house.address(name), name, rows))
        gates = {gate["name"]: gate for gate in status.get("gates", ())}
        found = Found(gates, {s["name"]: s.get("seconds", "") for s in status["steps"]}, right)
        kept.write_bytes(msgspec.json.encode(found))
        house.kubectl("delete", "optimizedmodel", name, "-n", house.namespace)
        took = f"asked after {time.monotonic() - began:.0f} s"
        print(f"{name}: {np.mean(right):.4f} right, {took}: {found.seconds}", flush=True)
    return msgspec.json.decode(kept.read_bytes(), type=Found)


def one_seed(
    house: kit.House, work: Path, rows: Sequence[tuple[str, str]], recipes: Sequence[str], seed: int
) -> dict[str, Found]:
    """The fine-tuned model and every recipe on it: later objects find the first steps done."""
    return {recipe: run(house, work, rows, recipe, seed) for recipe in (BASELINE, *recipes)}


def fill(work: Path) -> kit.House:
    """The operator, the namespace, and model and questions in the store."""
    kubectl = stage.Kubectl(stage.kubeconfig())
    stage.install(kubectl)
    stage.tenant(kubectl, PLACE)
    optimize.write_questions(work)
    stage.upload(work / "questions", f"{PLACE}/questions")
    stage.upload(assets.minilm(), f"{PLACE}/minilm")
    return kit.House(kubectl, PLACE)


def report(by_seed: Sequence[dict[str, Found]]) -> None:
    """The table, and the bars."""
    correct = {name: np.array([found[name].right for found in by_seed]) for name in by_seed[0]}
    base = float(correct[BASELINE].mean())
    seeds, questions = correct[BASELINE].shape
    print(f"\n{questions} questions asked over HTTP, {seeds} seeds; sizes and speed-ups are those of the gates\n")
    print("| recipe | smaller | speed-up (range) | accuracy % | points lost (95 % interval) |")
    print("|---|---|---|---|---|")
    print(f"| {BASELINE} | | | {100 * base:.1f} | |")
    verdicts = []
    for name in (name for name in correct if name != BASELINE):
        size = max(float(found[name].gates["size"]["value"]) for found in by_seed)
        speeds = sorted(1 / float(found[name].gates["faster"]["value"]) for found in by_seed)
        s, q = Speed(0.0, median(speeds), speeds[0], speeds[-1]), optimize.quality(correct[BASELINE], correct[name])
        loss = f"{100 * q.accuracy:.1f} | {100 * q.drop:+.1f} ({100 * q.low:+.1f} to {100 * q.high:+.1f})"
        print(f"| {name} | {1 - size:.0%} | {s.speedup:.2f} ({s.low:.2f} to {s.high:.2f}) | {loss} |")
        verdicts += [name, *(f"  {line}" for line in optimize.verdict(size, 1.0, base, q, s))]
    print("\n".join(["", *verdicts]))


def main() -> None:
    """Make what is not made yet, a few seeds at a time, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--recipes", nargs="*", default=RECIPES, help="of the chart's library")
    parser.add_argument("--jobs", type=int, default=2, help="seeds made at once, each by one CPU")
    parser.add_argument("--work", type=Path, default=CACHE / "bench-headline")
    asked = parser.parse_args()
    house = fill(asked.work)
    rows = [(r.text, str(r.label)) for r in optimize.Workshop(asked.work, 1, "test").rows("questions/test")]
    with ThreadPoolExecutor(asked.jobs) as pool:
        by_seed = list(pool.map(partial(one_seed, house, asked.work, rows, asked.recipes), range(asked.seeds)))
    house.kubectl("delete", "namespace", PLACE, "--wait=false")
    report(by_seed)


if __name__ == "__main__":
    main()
