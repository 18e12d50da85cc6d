"""What a search tries next. The same findings give the same next trial."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .findings import Finding, Observation, Sensitivity, coarse, cost, feasible
from .space import Candidate, Space, excluding, pruned

MAX_EXCLUDED = 3
"""Parts that may keep their precision."""


@dataclass(frozen=True)
class Ranking:
    """Asks for the sensitivity to a plain method."""

    candidate: Candidate


@dataclass(frozen=True)
class Budget:
    """No trial begins when as many were done, or so many seconds were searched."""

    trials: float
    seconds: float


ENDLESS = Budget(math.inf, math.inf)
"""With it a search ends when its tree does."""


def next_trial(space: Space, findings: Sequence[Finding], budget: Budget) -> Candidate | Ranking | None:
    """What to measure now; None = the search is over."""
    observed = {f.candidate for f in findings if isinstance(f, Observation)}
    if len(observed) >= budget.trials or sum(f.seconds for f in findings) >= budget.seconds:
        return None
    open_ones = (t for t in tree(space, findings) if isinstance(t, Ranking) or t.name not in observed)
    return next(open_ones, None)


def tree(space: Space, findings: Sequence[Finding]) -> Iterator[Candidate | Ranking]:
    """The candidates as far as the findings let them grow, in the order of their trials: every plain method; what is feasible with
    less of the model, the best first; what misses the floor by its answers with more precision."""
    observed = {f.candidate: f for f in findings if isinstance(f, Observation)}
    ranked = {f.method: f.ranked for f in findings if isinstance(f, Sensitivity)}
    leaves = space.leaves()
    yield from leaves
    finer = [tuple(_finer(leaf, observed, ranked)) for leaf in leaves]
    found = [c for c in (*leaves, *(c for each in finer for c in each)) if isinstance(c, Candidate)]
    good = [c for c in found if feasible(observed.get(c.name))]
    for candidate in sorted(good, key=lambda c: cost(observed[c.name].value)):
        yield from _less(space, candidate, observed)
    for each in finer:
        yield from each


def _less(space: Space, candidate: Candidate, observed: Mapping[str, Observation]) -> Iterator[Candidate]:
    """The candidate behind each pruning, unless the pruning that it begins with was too much."""
    for prune in space.prunings():
        before = observed.get(pruned(candidate, prune[:-1]).name)
        if before is None or (before.stage != "Failed" and not coarse(before)):
            yield pruned(candidate, prune)


def _finer(
    leaf: Candidate, observed: Mapping[str, Observation], ranked: Mapping[str, Sequence[str]]
) -> Iterator[Candidate | Ranking]:
    """A method that misses the floor, with ever more of the parts that suffer most in full precision."""
    candidate = leaf
    for count in range(1, MAX_EXCLUDED + 1):
        if candidate.quantize is None or not coarse(observed.get(candidate.name)):
            return
        if leaf.method not in ranked:
            yield Ranking(leaf)
            return
        parts = ranked[leaf.method][:count]
        if len(parts) < count:
            return
        candidate = excluding(leaf, parts)
        yield candidate
