"""The whole pipeline on the real encoder and real labelled questions, in the cluster: train, distil, trim, export, quantise, serve."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from demo import clients, stage
from tests import assets
from tests.e2e import kit

TRAINED_S = 900
SPLIT = {"seed": 0, "parts": [{"name": n, "percent": p} for n, p in (("train", 30), ("test", 10))]}
DATA = "questions/train"
TRAINING = {"epochs": 1, "learningRate": "0.0003", "maxLength": 48}
ADAPT = {"name": "adapt", "type": "FineTune", "fineTune": {"data": DATA, "training": TRAINING}}
SMALL = {
    "name": "small",
    "type": "Distill",
    "distill": {"data": DATA, "keepLayers": [1, 3, 5], "training": TRAINING | {"epochs": 2}},
}
TRIM = {"name": "trim", "type": "Prune", "prune": {"method": "Vocabulary", "data": DATA}}
EXPORT, INT8 = {"name": "graph", "type": "Export"}, {"name": "int8", "type": "Quantize"}
JOBS = {"resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "4Gi"}}}
GATES = [
    {"name": "accuracy", "metric": "Accuracy", "data": "questions/test", "maxDrop": "0.15"},
    {"name": "size", "metric": "SizeRatio", "max": "0.2"},
]
ASKED, RIGHT = 60, 40
"""Of six labels, of which chance finds a quarter."""


def spec(house: kit.House, name: str, steps: list[kit.Obj], gates: list[kit.Obj]) -> kit.Obj:
    """A classifier of questions, made from the encoder that has no head."""
    data = [{"name": "questions", "s3": stage.s3(f"{kit.ROOT}/questions/rows.jsonl"), "split": SPLIT}]
    target = {"shapes": [{"batchSize": 1, "sequenceLength": 32}]}
    optimization = {"steps": steps, "gates": gates, "target": target, "podTemplate": JOBS}
    return house.model(name, "minilm", task="TextClassification", data=data, optimization=optimization)


@pytest.mark.timeout(1200)
async def test_a_classifier_is_trained_compressed_proved_and_served(house: kit.House, tmp_path: Path) -> None:
    """And a second object shares the first steps and does no work for them."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"text": text, "label": label}) for label, text in assets.trec()))
    stage.upload(tmp_path, f"{kit.ROOT}/questions")
    stage.upload(assets.minilm(), f"{kit.ROOT}/minilm")
    house.apply(spec(house, "trained", [ADAPT, SMALL, TRIM, EXPORT, INT8], GATES))
    om = await kit.off_loop(house.wait_ready, "trained", TRAINED_S)
    assert {g["name"]: g["verdict"] for g in om["status"]["gates"]} == {"accuracy": "Pass", "size": "Pass"}
    assert {s["name"]: s["state"] for s in om["status"]["steps"]}["small"] == "Done"
    assert await right(house, "trained") >= RIGHT

    house.apply(spec(house, "shared", [ADAPT, SMALL, TRIM, EXPORT], GATES[:1]))
    om = await kit.off_loop(house.wait_ready, "shared", TRAINED_S)
    states = {s["name"]: s["state"] for s in om["status"]["steps"]}
    assert [states[name] for name in ("adapt", "small", "trim", "graph")] == ["Cached"] * 4, states
    assert await right(house, "shared") >= RIGHT


async def right(house: kit.House, name: str) -> int:
    """How many of some questions the served model answers right."""
    asked = assets.trec()[:: len(assets.trec()) // ASKED][:ASKED]
    labels = sorted({label for label, _ in assets.trec()})
    async with clients.Http(house.address(name), name, output="SCORES") as client:
        answers = await asyncio.gather(*(client.ask(text) for _, text in asked))
    found = [labels[max(range(len(scores)), key=scores.__getitem__)] for scores in answers]
    return sum(mine == label for mine, (label, _) in zip(found, asked, strict=True))
