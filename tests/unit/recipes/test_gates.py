"""Verdicts follow the interval: clear the bound, miss it, or say that the data cannot tell."""

from __future__ import annotations

import math
import random

import pytest

from optimodel.api.spec import Gate
from optimodel.recipes.gates import Measurement, accuracy, blocks, decimal, interval, judge, p95
from optimodel.recipes.paired import Pairs


def verdict(gate, measurement, dataset="eval"):
    (result,) = judge([gate], {(gate.metric, dataset): measurement} if measurement else {}, {gate.name: dataset})
    return result


def test_pass_fail_and_inconclusive():
    sample = tuple(0.99 + 0.002 * (i % 3 - 1) for i in range(300))
    mean = Measurement("Mean", sample)
    assert verdict(Gate("g", "CosineMean", min="0.985"), mean).verdict == "Pass"
    failed = verdict(Gate("g", "CosineMean", min="0.995"), mean)
    assert (failed.verdict, failed.value, failed.bound, failed.samples) == ("Fail", "0.99", "0.995", 300)
    assert "Compress less" in failed.message
    unsure = verdict(Gate("g", "CosineMean", min="0.99"), mean)
    assert unsure.verdict == "Inconclusive"
    assert "Give more data" in unsure.message


def test_what_an_unsure_gate_asks_for_would_help():
    cosines = Measurement("Mean", tuple(0.99 + 0.002 * (i % 3 - 1) for i in range(300)))
    clock = Measurement("Quantile", tuple(0.5 + i / 1000 for i in range(21)))
    bars = [Gate("alike", "CosineMean", min="0.99"), Gate("fast", "LatencyP50Ratio", max="0.51")]
    measured = {("CosineMean", "d"): cosines, ("LatencyP50Ratio", None): clock}
    for sampled, more_helps in (((), True), (("d",), False)):
        alike, fast = judge(bars, measured, {"alike": "d", "fast": None}, sampled)
        assert {alike.verdict, fast.verdict} == {"Inconclusive"}
        assert ("Give more data" in alike.message) == more_helps
        assert ("`confidence`" in alike.message) != more_helps
        assert "data" not in fast.message and "`confidence`" in fast.message


def test_missing_data_never_passes():
    assert verdict(Gate("g", "Accuracy", min="0"), None).verdict == "Inconclusive"
    assert verdict(Gate("g", "Accuracy", min="0"), Measurement("Mean", ())).verdict == "Inconclusive"
    assert verdict(Gate("g", "CosineMean", min="0.1"), Measurement("Mean", (math.nan,) * 9)).verdict == "Inconclusive"
    one = verdict(Gate("g", "CosineMean", min="0.1"), Measurement("Mean", (0.9,)))
    assert (one.verdict, one.low) == ("Inconclusive", "")


def test_lower_is_better_metrics():
    size = Measurement("Exact", (0.253,))
    assert verdict(Gate("s", "SizeRatio", max="0.27"), size).verdict == "Pass"
    assert verdict(Gate("s", "SizeRatio", max="0.25"), size).verdict == "Fail"
    ratios = Measurement("Quantile", tuple(0.5 + i / 1000 for i in range(21)))
    assert verdict(Gate("l", "LatencyP50Ratio", max="0.6"), ratios).verdict == "Pass"


def test_a_measurement_without_data_serves_any_gate():
    result = judge([Gate("s", "SizeRatio", max="0.3")], {("SizeRatio", None): Measurement("Exact", (0.2,))}, {})
    assert result[0].verdict == "Pass"


def test_small_samples_cannot_bound_an_extreme_quantile():
    few = interval(Measurement("Quantile", tuple(i / 20 for i in range(20)), 0.05), 0.95)
    assert few is not None
    assert few.low == -math.inf
    assert math.isfinite(few.high)


@pytest.mark.parametrize(
    ("kind", "quantile", "truth"), [("Mean", 0.5, 0.5), ("Quantile", 0.05, 0.05), ("Quantile", 0.95, 0.95)]
)
def test_intervals_cover_the_truth_as_often_as_promised(kind, quantile, truth):
    chance = random.Random(7)
    hits = 0
    for _ in range(400):
        found = interval(Measurement(kind, tuple(chance.random() for _ in range(200)), quantile), 0.95)
        assert found is not None
        hits += found.low <= truth <= found.high
    assert hits >= 370


def test_runs_of_a_block_count_as_one_observation_of_the_tail():
    """Blocks differ by 5 %, the runs of one by 1 %: as 135 runs of their own their interval would hold the truth in a quarter of cases."""
    chance = random.Random(11)
    hits = 0
    for _ in range(400):
        levels = [10 * (1 + chance.gauss(0, 0.05)) for _ in range(9)]
        found = interval(p95([[ms * (1 + chance.gauss(0, 0.01)) for _ in range(15)] for ms in levels]), 0.95)
        assert found is not None and found.samples == 9
        hits += found.low <= 10 * (1 + 1.645 * 0.01) <= found.high
    assert hits >= 370


@pytest.mark.parametrize("confidence", ["0.5", "0.9375", "0.95", "0.99", "0.999999"])
def test_a_slow_model_is_timed_as_often_as_the_confidence_of_its_gates_needs(confidence):
    bars = [Gate("tail", "LatencyP95Ms", max="500", confidence=confidence), Gate("half", "LatencyP50Ratio", max="0.9")]
    slow = p95([[150.0, 151.0, 152.0]] * blocks(bars))
    ratios = Measurement("Quantile", tuple(0.5 + n / 100 for n in range(blocks(bars))))
    found = judge(bars, {("LatencyP95Ms", None): slow, ("LatencyP50Ratio", None): ratios}, {})
    assert [gate.verdict for gate in found] == ["Pass", "Pass"]


def test_a_bar_on_speed_within_the_noise_does_not_ask_for_data():
    (found,) = judge([Gate("tail", "LatencyP95Ms", max="10")], {("LatencyP95Ms", None): p95([[9.0], [11.0]] * 4)}, {})
    assert found.verdict == "Inconclusive"
    assert "at 8 blocks. Measure on a quieter node" in found.message


def test_proportions_cover_too():
    chance = random.Random(3)
    hits = 0
    for _ in range(400):
        answers = [int(chance.random() < 0.9) for _ in range(150)]
        found = accuracy(Pairs.of([1] * 150, [1] * 150, answers), 0.95)
        assert found is not None
        hits += found.low <= 0.9 <= found.high
    assert hits >= 370


def test_decimals_are_plain():
    assert [decimal(x) for x in (0.25, 1.0, 1e-7, math.inf, 12.345678)] == ["0.25", "1", "0", "", "12.34568"]


def test_one_row_proves_nothing():
    row = Pairs.of([0], [0], [0])
    measured = {
        ("CosineMean", "d"): Measurement("Mean", (0.99,)),
        ("CosineP5", "d"): Measurement("Quantile", (0.99,), 0.05),
    }
    measured |= {("Accuracy", "d"): row, ("MacroF1", "d"): row}
    bars = [Gate(metric.lower(), metric, data="d", min="0.1") for metric, _ in measured if metric != "Accuracy"]
    bars += [Gate("accuracy", "Accuracy", data="d", min="0.5")]
    bars += [Gate(f"{metric}-drop", metric, data="d", max_drop="0.5") for metric in ("Accuracy", "MacroF1")]
    found = judge(bars, measured, {gate.name: "d" for gate in bars})
    assert {result.verdict for result in found} == {"Inconclusive"}
    assert all("data" in result.message for result in found)
