"""Gate verdicts: a measurement, its confidence interval, and the bound. Pure and distribution-free where it matters.

A drop is the baseline's metric minus the candidate's on the same rows; a gate reports it as `AccuracyDrop` or `MacroF1Drop`.

Pass: the whole interval clears the bound. Fail: the whole interval misses it. Otherwise, or without data: Inconclusive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Literal

from optimodel.api.contract import GateResult
from optimodel.api.spec import Gate, Metric

from .intervals import Interval, wilson, z_score
from .likelihoods import Readings, agreement, perplexity, perplexity_ratio
from .metrics import HIGHER_IS_BETTER, LABEL_METRICS
from .paired import Pairs, accuracy_drop, macro_f1, macro_f1_drop

Kind = Literal["Exact", "Mean", "Quantile"]
SPEED: frozenset[Metric] = frozenset({"LatencyP50Ratio", "LatencyP95Ms"})
"""Metrics that tell something on the target's device alone."""
Key = tuple[Metric, str | None]
"""A metric and the data it was measured on (None = no data)."""


@dataclass(frozen=True)
class Measurement:
    """What was observed: one number for Exact; `quantile` is for Quantile."""

    kind: Kind
    sample: tuple[float, ...] = field(repr=False)
    quantile: float = 0.5


Observed = Measurement | Pairs | Readings
"""What a gate is judged by."""
READ: Mapping[str, Callable[[Readings, float], Interval | None]] = {
    "Perplexity": perplexity,
    "PerplexityRatio": perplexity_ratio,
    "NextTokenAgreement": agreement,
}
"""What is made of texts that two models read."""


def interval(measurement: Measurement, confidence: float) -> Interval | None:
    """Two-sided interval at `confidence`, or None without observations.

    Mean: normal. Quantile: order statistics (binomial). Exact: the number itself.
    """
    sample = measurement.sample
    n = len(sample)
    if n == 0 or not all(map(math.isfinite, sample)):
        return None
    z = z_score(confidence)
    if measurement.kind == "Exact":
        return Interval(sample[0], sample[0], sample[0], n)
    if measurement.kind == "Quantile":
        return _quantile(sorted(sample), measurement.quantile, confidence)
    mean = fmean(sample)
    reach = z * stdev(sample) / math.sqrt(n) if n > 1 else math.inf
    return Interval(mean, mean - reach, mean + reach, n)


def _quantile(ordered: Sequence[float], q: float, confidence: float) -> Interval:
    """Bounds are order statistics: P(X_(r) <= quantile) is a binomial tail, whatever the distribution."""
    n = len(ordered)
    value = quantile(ordered, q)
    tail = (1 - confidence) / 2
    low, high, below = -math.inf, math.inf, 0.0
    for r in range(n):
        # `below` is P(Bin(n, q) < r): how often fewer than r observations lie under the quantile.
        if below <= tail and r > 0:
            low = ordered[r - 1]
        below += math.exp(_log_binomial(n, r, q))
        if below >= 1 - tail and high == math.inf:
            high = ordered[r]
    return Interval(value, low, high, n)


def _log_binomial(n: int, k: int, p: float) -> float:
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return ways + k * math.log(p) + (n - k) * math.log1p(-p)


def quantile(ordered: Sequence[float], q: float) -> float:
    """Linear-interpolated quantile of a sorted, non-empty sequence."""
    position = q * (len(ordered) - 1)
    lower = math.floor(position)
    upper = min(lower + 1, len(ordered) - 1)
    return ordered[lower] + (ordered[upper] - ordered[lower]) * (position - lower)


def p95(blocks: Sequence[Sequence[float]]) -> Measurement:
    """The 95th percentile of runs that were timed in blocks: the median of what it is in each. Runs of one block are alike: taken for
    independent they would bound it far too narrowly."""
    return Measurement("Quantile", tuple(quantile(sorted(block), 0.95) for block in blocks))


def blocks(gates: Sequence[Gate]) -> int:
    """How many blocks bound what the gates on speed are about, at their confidence: that all of n lie on one side of their median has
    the chance 2 / 2^n."""
    wanted = (float(gate.confidence) for gate in gates if gate.metric in SPEED)
    return max((math.floor(math.log2(2 / (1 - confidence))) + 1 for confidence in wanted), default=0)


def decimal(value: float) -> str:
    """A decimal string of at most 5 places; empty for what is unknown or infinite."""
    if not math.isfinite(value):
        return ""
    return f"{value:.5f}".rstrip("0").rstrip(".") or "0"


def judge(
    gates: Sequence[Gate],
    measurements: Mapping[Key, Observed],
    data: Mapping[str, str | None],
    sampled: Collection[str] = (),
) -> tuple[GateResult, ...]:
    """A verdict per gate, in order. `data`: gate name -> the data it is judged on (`data.gate_dataset`); `sampled`: data that has
    more rows than are measured."""
    judged = ((gate, data.get(gate.name)) for gate in gates)
    return tuple(_judge(gate, _find(gate, measurements, name), name not in sampled) for gate, name in judged)


def of_a_kept_baseline(gates: Sequence[Gate]) -> set[str]:
    """Names of the gates that hold for a baseline which is kept because nothing smaller or faster is good enough: absolute bars
    for right answers. It loses nothing against itself, and bars for size and speed are what could not be reached."""
    return {gate.name for gate in gates if gate.metric in LABEL_METRICS and gate.max_drop is None}


def _find(gate: Gate, measurements: Mapping[Key, Observed], dataset: str | None) -> Interval | None:
    """The interval that the gate is about: of the drop with `maxDrop`, else of the metric itself."""
    found = measurements.get((gate.metric, dataset)) or measurements.get((gate.metric, None))
    confidence = float(gate.confidence)
    if isinstance(found, Measurement):
        return interval(found, confidence) if gate.max_drop is None else None
    if found is None:
        return None
    if isinstance(found, Readings):
        return READ[gate.metric](found, confidence)
    if gate.max_drop is not None:
        return {"Accuracy": accuracy_drop, "MacroF1": macro_f1_drop}[gate.metric](found, confidence)
    return {"Accuracy": accuracy, "MacroF1": macro_f1}[gate.metric](found, confidence)


def accuracy(pairs: Pairs, confidence: float) -> Interval | None:
    """Share of the answers of the candidate that are right, with Wilson's interval."""
    if not pairs.cells:
        return None
    right = sum(k for (t, _, a), k in pairs.cells.items() if a == t)
    return wilson(right / sum(pairs.cells.values()), pairs.rows, confidence)


def _judge(gate: Gate, found: Interval | None, whole: bool) -> GateResult:
    higher = gate.metric in HIGHER_IS_BETTER and gate.max_drop is None
    bound = (gate.max_drop if gate.max_drop is not None else gate.min if higher else gate.max) or ""
    name = f"{gate.metric}Drop" if gate.max_drop is not None else gate.metric
    if found is None or not bound:
        way = (
            "Let the Job run on the target's device with a worker image that can use it, or leave the gate out"
            if gate.metric in SPEED
            else "Give the gate data that holds it"
        )
        message = f"{gate.metric} was not measured, so nothing is proven. {way}."
        return GateResult(gate.name, name, "Inconclusive", bound=bound, message=message)
    limit = float(bound)
    clears = found.low >= limit if higher else found.high <= limit
    misses = found.high < limit if higher else found.low > limit
    verdict: Literal["Pass", "Fail", "Inconclusive"] = "Pass" if clears else "Fail" if misses else "Inconclusive"
    sign = "≥" if higher else "≤"
    numbers = f"{name} {decimal(found.value)} [{decimal(found.low) or '?'}, {decimal(found.high) or '?'}]"
    advice = {
        "Pass": "",
        "Fail": f"{numbers} misses {sign} {bound}. Compress less, or lower the bar.",
        "Inconclusive": f"{numbers} spans {sign} {bound} at {found.samples} {_way_out(gate, whole)}",
    }[verdict]
    value, low, high = decimal(found.value), decimal(found.low), decimal(found.high)
    return GateResult(gate.name, name, verdict, value, low, high, bound, found.samples, advice)


def _way_out(gate: Gate, whole: bool) -> str:
    """What was counted, and what may narrow its interval or let it be wider; `whole`: all rows that there are were measured."""
    if gate.metric in SPEED:
        return "blocks. Measure on a quieter node, lower the gate's `confidence`, or move the bar."
    if not whole:
        return "samples, the most that are measured. Lower the gate's `confidence`, or move the bar."
    return "samples. Give more data, or move the bar."
