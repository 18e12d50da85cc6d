"""The statistics of `make bench-optimize`, on answers whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from tests.perf import auto, compressions, optimize
from tests.perf.optimize import Quality, Speed

from optimodel import recipes
from optimodel.api.sources import PVC, Dataset
from optimodel.recipes import identity, search


def answers(chance, share, shape=(5, 1000)):
    return (chance.random(shape) < share).astype(np.int8)


def test_the_interval_covers_the_planted_loss_as_often_as_it_says():
    """Each row has its own difficulty, shared by all seeds: resampling seeds alone would cover far less."""
    covered, turns = 0, 40
    for turn in range(turns):
        chance = np.random.default_rng(turn)
        base = np.ones((5, 1000), np.int8)
        found = optimize.quality(base, answers(chance, chance.choice([0.8, 1.0], 1000)))
        covered += found.low <= 0.1 <= found.high
    assert covered >= 0.85 * turns


def test_equal_answers_lose_nothing_and_a_loss_has_its_sign():
    chance = np.random.default_rng(1)
    base = answers(chance, 0.9)
    assert optimize.quality(base, base) == Quality(float(base.mean()), 0.0, 0.0, 0.0)
    worse = base * answers(chance, 0.95)
    found = optimize.quality(base, worse)
    assert 0.03 < found.low < found.drop < found.high < 0.06


@pytest.mark.parametrize(("high", "word"), [(0.04, "met"), (0.05, "MISSED")])
def test_the_bound_is_judged_relative_to_the_baseline(high, word):
    lines = optimize.verdict(20, 100, 0.94, Quality(0.93, 0.01, -0.01, high), Speed(4.0, 3.1, 2.9, 3.3))
    assert [line.rsplit(" ", 1)[1] for line in lines] == ["met", "met", "met", word]


def test_the_parts_share_no_question_and_leave_none_out(tmp_path):
    optimize.write_questions(tmp_path)
    shop = optimize.Workshop(tmp_path, 1, "test")
    parts = [{row.text for row in shop.rows(f"questions/{name}")} for name in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [3228, 1076, 1076]
    assert len(set.union(*parts)) == 5380, "two differ in case alone"


def test_every_recipe_is_legal():
    data = (Dataset("questions", pvc=PVC("claim", "rows.jsonl"), split=optimize.SPLIT),)
    for name, steps in compressions.recipes(3).items():
        assert not recipes.check("TextClassification", steps, (), data), name


@pytest.mark.parametrize("objective", ["Latency", "Size"])
def test_what_auto_is_asked_is_legal(objective):
    data = (Dataset("questions", pvc=PVC("claim", "rows.jsonl"), split=optimize.SPLIT),)
    asked = auto.searched(objective, ("Layers", "FFN", "Vocabulary"))
    assert not search.check(asked, "TextClassification", (compressions.EXPORT,), (auto.FLOOR,), data)
    assert all(compressions.named(name, 0) for name in auto.NAMED)


def test_techniques_share_what_the_named_recipe_trains():
    """Else every seed trains twice."""
    made = compressions.recipes(3)
    alone, named = made["3 of 6 layers, distilled"], made[compressions.HEADLINE]
    assert [identity.canonical_step(step) for step in named[:3]] == [identity.canonical_step(step) for step in alone]
