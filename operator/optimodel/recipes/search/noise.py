"""What the clock of single trials cannot tell apart: who is timed once more, in turn, and what that tells."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import msgspec

from optimodel.api.search import Objective

from ..gates import Measurement, interval
from .findings import Finding, Observation, Timing, cost, holding, merit

NOISE = 0.1
"""Latencies of one graph differ by up to so much of their value from run to run (research measured ±10 % on a shared machine)."""
FINALISTS = 4
"""All of them are in memory at once."""
CONFIDENCE = 0.95


def surely(less: float | None, more: float | None) -> bool:
    """Whether the one figure is less than the other even if both are off by the noise."""
    return cost(less) * (1 + NOISE) < cost(more) * (1 - NOISE)


def finalists(findings: Sequence[Finding], objective: Objective) -> tuple[Observation, ...]:
    """Who may be the best, when the figure of each may be off by the noise: the best first, of equals the smaller and then who answers
    better. None where that leaves nothing open: bytes are counted, not timed."""
    gained = (o for o in holding(findings) if cost(o.value) <= 1 + NOISE)
    good = sorted(gained, key=lambda o: (cost(o.value), o.weights_bytes, -merit(o.quality), o.candidate))
    near = [o for o in good if not surely(good[0].value, o.value)]
    return tuple(near[:FINALISTS]) if len(near) > 1 and objective != "Size" else ()


def final(findings: Sequence[Finding]) -> Timing | None:
    """What the final found, once it was held."""
    return next((f for f in findings if isinstance(f, Timing)), None)


def settled(findings: Sequence[Finding], objective: Objective) -> tuple[Finding, ...]:
    """The findings, with the finalists' figures from the final in place of those from their trials."""
    timing = final(findings)
    values = dict(zip(timing.candidates, map(median, timing.values), strict=True)) if timing else {}

    def corrected(found: Finding) -> Finding:
        if not isinstance(found, Observation) or found.candidate not in values:
            return found
        value = values[found.candidate]
        latency = value if objective == "Latency" else found.latency
        return msgspec.structs.replace(found, value=value, latency=latency)

    return tuple(map(corrected, findings))


def contenders(findings: Sequence[Finding], timing: Timing | None) -> tuple[Observation, ...]:
    """Feasible candidates that may win: once a final was held the finalists, and of the rest, whose figures chance may have flattered,
    those that are better than every finalist for sure."""
    good = holding(findings)
    timed = [o for o in good if timing and o.candidate in timing.candidates]
    best = min((cost(o.value) for o in timed), default=None)
    return tuple(o for o in good if best is None or o in timed or surely(o.value, best))


def behind(one: Observation, best: Observation, timing: Timing | None) -> bool:
    """Whether it is worse than the best by the objective. Of finalists: by the interval of the median of what it takes of the
    other's in the same round, whatever that round was like for both. Of others: beyond noise."""
    if timing is None or not {one.candidate, best.candidate} <= set(timing.candidates):
        return cost(one.value) > cost(best.value) * (1 + NOISE)
    ours, theirs = (timing.values[timing.candidates.index(o.candidate)] for o in (one, best))
    ratios = tuple(mine / other for mine, other in zip(ours, theirs, strict=True))
    found = interval(Measurement("Quantile", ratios, 0.5), CONFIDENCE)
    return found is not None and found.low > 1
