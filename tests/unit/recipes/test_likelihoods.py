"""How well two models expect text: the figures, what bounds them, and the gates on them."""

from __future__ import annotations

import math
import random

import pytest

from optimodel.api.spec import Gate
from optimodel.recipes.gates import judge
from optimodel.recipes.likelihoods import Reading, Readings, agreement, perplexity, perplexity_ratio


def drawn(texts: int, seed: int = 0, loss: float = 0.05) -> Readings:
    """Texts that are hard or easy for both; the candidate loses about `loss` on each token."""
    chance = random.Random(seed)
    found = []
    for _ in range(texts):
        tokens, hard = chance.randrange(10, 60), chance.uniform(1, 5)
        before = tokens * hard
        found.append(Reading(tokens, before, before + tokens * chance.gauss(loss, 0.05), round(0.9 * tokens)))
    return Readings(tuple(found))


def test_every_token_counts_the_same():
    readings = Readings((Reading(1, 1.0, 2.0, 1), Reading(9, 1.0, 3.0, 0)))
    found = perplexity(readings, 0.95)
    assert found.value == pytest.approx(math.exp(0.5))
    assert perplexity_ratio(readings, 0.95).value == pytest.approx(math.exp(0.3))
    assert agreement(readings, 0.95).value == 0.1
    assert found.low < found.value < found.high


def test_the_ratio_is_surer_than_the_perplexity_and_holds_the_truth():
    inside = 0
    for seed in range(200):
        readings = drawn(60, seed)
        ratio, alone = perplexity_ratio(readings, 0.95), perplexity(readings, 0.95)
        assert (ratio.high - ratio.low) / ratio.value < (alone.high - alone.low) / alone.value / 5
        inside += ratio.low <= math.exp(0.05) <= ratio.high
    assert 180 <= inside <= 199


def test_a_gate_on_one_text_or_on_none_proves_nothing():
    gate = Gate("loss", "PerplexityRatio", max="1.1")
    for readings in (Readings((Reading(9, 9.0, 9.0, 9),)), Readings(()), Readings((Reading(9, 9.0, math.nan, 9),) * 9)):
        (result,) = judge([gate], {("PerplexityRatio", "d"): readings}, {"loss": "d"})
        assert result.verdict == "Inconclusive"


@pytest.mark.parametrize(
    ("gate", "verdict"),
    [
        (Gate("g", "PerplexityRatio", max="1.08"), "Pass"),
        (Gate("g", "PerplexityRatio", max="1.02"), "Fail"),
        (Gate("g", "Perplexity", max="200"), "Pass"),
        (Gate("g", "Perplexity", max="3"), "Fail"),
        (Gate("g", "NextTokenAgreement", min="0.8"), "Pass"),
        (Gate("g", "NextTokenAgreement", min="0.9"), "Inconclusive"),
        (Gate("g", "NextTokenAgreement", min="0.99"), "Fail"),
    ],
)
def test_gates_follow_the_interval(gate, verdict):
    (result,) = judge([gate], {(gate.metric, "d"): drawn(200)}, {"g": "d"})
    assert result.verdict == verdict, result.message


def test_what_no_float_holds_is_infinite():
    worst = Readings((Reading(1, 1.0, 1e4, 0), Reading(1, 1.0, 2e4, 0)))
    assert perplexity(worst, 0.95).high == math.inf
