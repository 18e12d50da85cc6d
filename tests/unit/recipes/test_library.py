"""The chart's library of recipes: each is legal for each of its tasks."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec
import pytest
import yaml

from optimodel import recipes as rules
from optimodel.api.sources import S3, Dataset, Part, Split
from optimodel.api.spec import Optimization, RecipeRef, RecipeSpec, Target, Task
from optimodel.recipes.resolve import resolve

FILES = sorted((Path(__file__).parents[3] / "charts" / "optimodel" / "files" / "recipes").glob("*.yaml"))
QUESTIONS = Dataset("questions", s3=S3("s3://d/q.jsonl"), split=Split((Part("train", 60), Part("test", 20))))
VALUES = {"train": "questions/train", "data": "questions/train", "test": "questions/test"}


def recipe(path: Path) -> RecipeSpec:
    return msgspec.convert(yaml.safe_load(path.read_text())["spec"], RecipeSpec)


def resolved(path: Path, task: str) -> Optimization:
    spec = recipe(path)
    given = {p.name: VALUES[p.name] for p in spec.parameters if p.default is None}
    found = resolve(task, Optimization(recipe_ref=RecipeRef(path.stem), parameters=given), spec)  # type: ignore[arg-type]
    assert found.problems == ()
    return found.optimization


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_each_is_legal_and_says_what_it_is_for(path: Path) -> None:
    spec = recipe(path)
    for task in spec.tasks or get_args(Task):
        found = resolved(path, task)
        target = Target("GPU", "TensorRT") if path.stem.startswith("gpu-") else Target()
        assert rules.check(task, found.steps, found.gates, (QUESTIONS,), target) == ()
    assert spec.description and all(p.description for p in spec.parameters)
    assert yaml.safe_load(path.read_text())["metadata"] == {"name": path.stem}
