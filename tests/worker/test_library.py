"""Every recipe of the chart's library makes an artifact that is smaller than its source and proved, on a tiny encoder."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import get_args

import msgspec
import pytest
import yaml
from tests import inputs
from tests.worker import pictures, tiny

from optimodel.api.contract import Result
from optimodel.api.spec import Optimization, RecipeRef, RecipeSpec, Task
from optimodel.recipes.resolve import resolve

FILES = sorted((Path(__file__).parents[2] / "charts" / "optimodel" / "files" / "recipes").glob("*.yaml"))
VALUES = {"train": "d/train", "data": "d/train", "test": "d/test", "max-drop": "1", "max-ratio": "2"}
LABELS = {"person": "who wrote", "place": "what is the capital of", "fish": "name a fish"}
SOURCES = {
    "TextEmbedding": "encoder",
    "TextClassification": "classifier",
    "TokenClassification": "tagger",
    "TextGeneration": "decoder",
    "ImageClassification": "pictures",
}
INVARIANT = {"cpu-int8-invariant", "cpu-small", "decoder-w4", "gpu-fp8"}
"""Recipes that promise answers independent of their batch."""


def recipe(path: Path) -> RecipeSpec:
    return msgspec.convert(yaml.safe_load(path.read_text())["spec"], RecipeSpec)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("library")
    tiny.save("bert", made / "encoder")
    tiny.save("bert", made / "classifier", sorted(LABELS))
    tiny.save("bert", made / "tagger", ["other", "word"], words=True)
    tiny.save_decoder(made / "decoder")
    chance = random.Random(5)
    rows = [{"text": f"{s} word{chance.randrange(90)}", "label": name} for name, s in LABELS.items() for _ in range(50)]
    tiny.save_images(made / "pictures", pictures.LABELS)
    words = [{"tokens": row["text"].split()} for row in rows]
    words = [row | {"tags": ["word" if "word" in word else "other" for word in row["tokens"]]} for row in words]
    for name, found in (("rows", rows), ("words", words), ("pictures", pictures.fields(150))):
        (made / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    (made / "store").mkdir()
    return made


def made(path: Path, task: Task, folder: Path, work: Path) -> Result:
    """What the worker makes of the tiny model by this recipe."""
    spec = recipe(path)
    values = {p.name: VALUES[p.name] for p in spec.parameters if p.name in VALUES}
    found = resolve(task, Optimization(recipe_ref=RecipeRef(path.stem), parameters=values), spec)
    assert found.problems == ()
    trained = any(s.type == "FineTune" for s in found.optimization.steps)
    source = "encoder" if trained else SOURCES[task]
    rows = {"TokenClassification": "words", "ImageClassification": "pictures"}.get(task, "rows")
    data = (inputs.dataset(folder, file=f"{rows}.jsonl", split=inputs.PARTS),)
    steps, gates = found.optimization.steps, found.optimization.gates
    device = "TensorRT" if path.stem.startswith("gpu-") else None
    given = {"source": source, "revision": path.stem, "task": task, "gates": gates, "data": data, "accelerator": device}
    job = inputs.job(folder, *steps, **given)
    return inputs.run(job, work)[0]


@pytest.mark.parametrize(
    ("path", "task"), [pytest.param(p, t, id=f"{p.stem}-{t}") for p in FILES for t in recipe(p).tasks or get_args(Task)]
)
def test_a_recipe_makes_a_smaller_model(path: Path, task: Task, folder: Path, tmp_path: Path) -> None:
    result = made(path, task, folder, tmp_path / "work")
    assert result.outcome == "Succeeded", result.message
    artifact, figures = result.artifact, result.figures
    assert artifact is not None and figures is not None
    assert artifact.weights_bytes < artifact.source_weights_bytes
    assert {g.verdict for g in result.gates} <= {"Pass"}
    if path.stem in INVARIANT:
        assert float(figures.batch_invariance) > 0.9999 and artifact.max_batch_size == 0
