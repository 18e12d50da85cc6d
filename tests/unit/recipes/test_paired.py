"""Intervals of a drop hold the truth, invert their test, and do not take few rows for proof."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimodel.api.spec import Gate
from optimodel.recipes.gates import judge
from optimodel.recipes.paired import Pairs, accuracy_drop, f1, macro_f1, macro_f1_drop


def counts(lost, won, both, neither=0):
    cells = {(0, 0, 1): lost, (0, 1, 0): won, (0, 0, 0): both, (0, 1, 1): neither}
    return Pairs({cell: number for cell, number in cells.items() if number})


def likeliest(lost, won, n, drop):
    """The share of rows lost that makes the counts likeliest, given the true drop: by ternary search of the likelihood."""

    def log_likelihood(share):
        cells = ((lost, share), (won, share - drop), (n - lost - won, 1 - 2 * share + drop))
        return sum(k * math.log(p) for k, p in cells if k)

    low, high = max(0.0, drop) + 1e-12, (1 + drop) / 2 - 1e-12
    for _ in range(200):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        low, high = (a, high) if log_likelihood(a) < log_likelihood(b) else (low, b)
    return (low + high) / 2


@pytest.mark.parametrize("table", [(12, 2, 36), (9, 1, 1), (3, 7, 290), (40, 25, 900)])
def test_the_bounds_are_where_the_score_test_rejects(table):
    """Tango's statistic at both bounds is z, with the nuisance share found numerically rather than by his formula."""
    lost, won, _ = table
    n, found = sum(table), accuracy_drop(counts(*table), 0.95)
    for bound, sign in ((found.low, 1), (found.high, -1)):
        share = likeliest(lost, won, n, bound)
        spread = n * (2 * share - bound - bound**2)
        assert (lost - won - n * bound) / math.sqrt(spread) == pytest.approx(sign * 1.959964, abs=1e-3)


def test_without_a_disagreement_the_bounds_are_those_of_the_zero_counts():
    found = accuracy_drop(counts(0, 0, 10), 0.95)
    z2 = 1.959964**2
    assert (found.low, found.high) == (pytest.approx(-z2 / (10 + z2)), pytest.approx(z2 / (10 + z2)))


tables = st.tuples(*[st.integers(0, 40)] * 4).filter(lambda t: sum(t) > 1)


@given(tables)
def test_the_interval_of_a_drop_holds_the_estimate_and_mirrors(table):
    lost, won, both, neither = table
    found, mirrored = accuracy_drop(counts(*table), 0.95), accuracy_drop(counts(won, lost, both, neither), 0.95)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert (found.low, found.high) == (pytest.approx(-mirrored.high, abs=1e-6), pytest.approx(-mirrored.low, abs=1e-6))
    wider = accuracy_drop(counts(*table), 0.99)
    assert wider.low <= found.low + 1e-9
    assert found.high <= wider.high + 1e-9
    if lost + won:
        more = accuracy_drop(counts(*(10 * n for n in table)), 0.95)
        assert more.high - more.low < found.high - found.low


answers = st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=2, max_size=30)


@settings(max_examples=5)
@given(answers)
def test_the_bootstrap_holds_the_estimate_and_is_repeatable(rows):
    pairs = Pairs.of(*map(list, zip(*rows, strict=True)))
    for statistic in (macro_f1, macro_f1_drop):
        found = statistic(pairs, 0.9)
        assert found.low <= found.value <= found.high
        assert statistic(pairs, 0.9) == found
    assert macro_f1(pairs, 0.9).value == pytest.approx(f1(pairs.cells, 2))


def test_macro_f1_of_a_worked_example():
    truth, answer = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 0]
    assert f1(Pairs.of(truth, truth, answer).cells, 2) == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)
    assert f1(Pairs.of(truth, truth, answer).cells, 1) == 1


def test_intervals_of_the_accuracy_drop_cover_the_truth():
    chance, hits = random.Random(11), 0
    for _ in range(300):
        drawn = chance.choices(((0, 0, 1), (0, 1, 0), (0, 0, 0)), (0.04, 0.01, 0.95), k=400)
        found = accuracy_drop(Pairs.of(*map(list, zip(*drawn, strict=True))), 0.95)
        hits += found.low <= 0.03 <= found.high
    assert hits >= 277


def verdict(pairs, metric="Accuracy", drop="0.02"):
    gate = Gate("g", metric, data="d", max_drop=drop)
    (found,) = judge([gate], {(metric, "d"): pairs} if pairs else {}, {"g": "d"})
    return found


def test_a_drop_passes_fails_or_is_not_decided():
    assert verdict(counts(4, 4, 1000)).verdict == "Pass"
    failed = verdict(counts(80, 2, 1000))
    assert (failed.verdict, failed.metric, failed.bound) == ("Fail", "AccuracyDrop", "0.02")
    assert "AccuracyDrop 0.07209" in failed.message
    assert verdict(counts(25, 5, 1000)).verdict == "Inconclusive"
    assert verdict(None).verdict == "Inconclusive"


@pytest.mark.parametrize("metric", ["Accuracy", "MacroF1"])
def test_equal_answers_to_few_rows_prove_nothing(metric):
    equal = {(k, k, k): 4 for k in range(3)}
    assert verdict(Pairs(equal), metric).verdict == "Inconclusive"
    assert verdict(Pairs(dict.fromkeys(equal, 400)), metric).verdict == "Pass"


def test_words_of_one_text_are_not_independent_evidence():
    """Texts of 20 words of which none or all are lost: intervals of texts hold the truth, intervals of words do not."""
    chance, held = random.Random(3), {"texts": 0, "words": 0}
    for _ in range(200):
        lost = [chance.random() < 0.1 for _ in range(100)]
        after = [int(gone) for gone in lost for _ in range(20)]
        right = [0] * len(after)
        for name, sizes in (("texts", [20] * 100), ("words", ())):
            found = accuracy_drop(Pairs.of(right, right, after, sizes), 0.95)
            held[name] += found.low <= 0.1 <= found.high
            assert found.value == pytest.approx(sum(lost) / 100)
            assert found.samples == (100 if sizes else 2000)
    assert held["texts"] >= 180 and held["words"] < 100
    assert Pairs.of([0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 1, 1]) == Pairs.of([0, 0, 0], [0, 0, 0], [0, 0, 0])


def test_gates_on_words_take_intervals_of_texts():
    truth = [0, 1] * 500
    after = [1 - t if n % 100 < 10 else t for n, t in enumerate(truth)]
    pairs = Pairs.of(truth, truth, after, [10] * 100)
    gates = (Gate("a", "Accuracy", min="0.8"), Gate("f", "MacroF1", min="0.8"), Gate("d", "MacroF1", max_drop="0.3"))
    for found in judge(gates, {("Accuracy", "d"): pairs, ("MacroF1", "d"): pairs}, dict.fromkeys("afd", "d")):
        assert (found.verdict, found.samples) == ("Pass", 100)
        assert float(found.high) - float(found.low) > 0.08, "as wide as 100 texts make it, not 1000 words"
