"""Who wins, and why. Feasible comes first; then the objective; what the clock cannot tell apart goes to the smaller and simpler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optimodel.api.search import Objective

from .findings import Finding, Observation, cost, holding, merit
from .noise import NOISE, behind, contenders, final, settled, surely

_WORDS: dict[Objective, str] = {
    "Latency": "the latency",
    "Size": "the size",
    "Throughput": "the time that a text takes",
    "Cost": "time × memory that a text takes",
}


@dataclass(frozen=True)
class Choice:
    """The winner, or None where no candidate holds the floor, and the reason in words."""

    winner: Observation | None
    reason: str


def front(findings: Sequence[Finding]) -> tuple[Observation, ...]:
    """The Pareto list: feasible candidates of which none is at least as good in everything (quality, latency, objective, size) and
    better in something as another; the best by the objective first. A contender yields to contenders alone: chance may have
    flattered the others."""
    good, rivals = holding(findings), contenders(findings, final(findings))
    best = [one for one in good if not any(_dominates(other, one) for other in (rivals if one in rivals else good))]
    return tuple(sorted(best, key=lambda o: (cost(o.value), o.weights_bytes, o.candidate)))


def _axes(found: Observation) -> tuple[float, ...]:
    """What is better when it is lower."""
    return (-merit(found.quality), cost(found.latency), cost(found.value), found.weights_bytes)


def _dominates(one: Observation, other: Observation) -> bool:
    mine, theirs = _axes(one), _axes(other)
    return all(a <= b for a, b in zip(mine, theirs, strict=True)) and mine != theirs


def unbeaten(found: Observation, findings: Sequence[Finding]) -> bool:
    """Whether a candidate that was timed is worth all the texts: no feasible one answered the few texts as well, and is as small
    and, beyond noise, faster."""

    def beaten_by(other: Observation) -> bool:
        times = ((other.latency, found.latency), (other.value, found.value))
        faster = all(surely(ours, theirs) for ours, theirs in times)
        return faster and other.weights_bytes <= found.weights_bytes and merit(other.screen) >= merit(found.screen)

    return not any(beaten_by(other) for other in holding(findings))


def choose(findings: Sequence[Finding], objective: Objective) -> Choice:
    """The winner is of the contenders' Pareto list, and of those that are not behind its best by the objective the smallest, then that
    of fewest steps. What costs more than the baseline, beyond noise, is no gain."""
    findings, timing = settled(findings, objective), final(findings)
    tried = [f for f in findings if isinstance(f, Observation)]
    held = f"{len(holding(findings))} of {len(tried)} candidates hold the floor"
    best = [o for o in front(contenders(findings, timing)) if cost(o.value) <= 1 + NOISE]
    if not best:
        why = ", and none of them with a gain" if holding(findings) else _nearest(tried)
        return Choice(None, f"{held}{why}. The baseline is kept.")
    tied = [o for o in best if not behind(o, best[0], timing)]
    winner = min(tied, key=lambda o: (o.weights_bytes, o.steps, cost(o.value), o.candidate))
    share = f"{_WORDS[objective]} is {cost(winner.value):.3f} of the baseline's"
    if timing and winner.candidate in timing.candidates:
        held += f"; {len(timing.candidates)} were timed in turn"
    others = f"; of {len(tied)} that noise does not tell apart the smallest" if len(tied) > 1 else ""
    return Choice(winner, f"{winner.candidate}: {share}; {held}{others}.")


def _nearest(tried: Sequence[Observation]) -> str:
    """What the candidate of the best answers missed, or why one could not be made if that holds for all."""
    told = [o for o in tried if any(v.verdict != "Pass" for v in o.gates)]
    if not told:
        failed = next((o for o in tried if o.message), None)
        return f"; {failed.candidate} could not be made ({failed.message.rstrip('.')})" if failed else ""
    near = max(told, key=lambda o: (o.stage == "Judged", merit(o.quality), merit(o.screen)))
    v = next(v for v in near.gates if v.verdict != "Pass")
    return f"; the nearest, {near.candidate}, has {v.metric} {v.value or '?'} [{v.low or '?'}, {v.high or '?'}] against {v.bound}"
