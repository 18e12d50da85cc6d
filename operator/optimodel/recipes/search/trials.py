"""What a search tries next. The same findings give the same next trial."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, product

from optimodel.api.steps import Step

from .findings import Finding, Observation, Sensitivity, coarse, cost, feasible, merit, too_large
from .noise import final, finalists
from .space import Candidate, Space, excluding, gentler, pruned

MAX_EXCLUDED = 3
"""Parts that may keep their precision."""
BEST = 2
"""Candidates that are also tried with smaller tables, and with less of the model: they share the trainings, but not the time of their
trials."""


@dataclass(frozen=True)
class Ranking:
    """Asks for the sensitivity to a plain method."""

    candidate: Candidate


@dataclass(frozen=True)
class Final:
    """Asks for the candidates to be timed in turn."""

    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Budget:
    """No trial begins when as many were done, or so many seconds were searched."""

    trials: float
    seconds: float


ENDLESS = Budget(math.inf, math.inf)
"""With it a search ends when its tree does."""


def next_measurement(space: Space, findings: Sequence[Finding], budget: Budget) -> Candidate | Ranking | Final | None:
    """What to measure now; None = the search is over. Last of all, whatever is left of the budget, is a final, if there are
    finalists."""
    trial = next_trial(space, findings, budget)
    names = [o.candidate for o in finalists(findings, space.auto.objective)]
    if trial or not names or final(findings):
        return trial
    return Final(tuple(named(space, findings, name) for name in names))


def named(space: Space, findings: Sequence[Finding], name: str) -> Candidate:
    """One that was tried, by its name."""
    tried = (c for c in tree(space, findings) if isinstance(c, Candidate))
    return next(c for c in tried if c.name == name)


def next_trial(space: Space, findings: Sequence[Finding], budget: Budget) -> Candidate | Ranking | None:
    """The next of the tree, within the budget."""
    observed = {f.candidate for f in findings if isinstance(f, Observation)}
    if len(observed) >= budget.trials or sum(f.seconds for f in findings) >= budget.seconds:
        return None
    open_ones = (t for t in tree(space, findings) if isinstance(t, Ranking) or t.name not in observed)
    return next(open_ones, None)


def tree(space: Space, findings: Sequence[Finding]) -> Iterator[Candidate | Ranking]:
    """The candidates as far as the findings let them grow, in the order of their trials: every plain method, and what stands in for
    those that fall short; the best of these with smaller tables, which take their place if they are feasible; the best of that, with
    less of the model; what misses the floor by its answers, with more precision. Where only that helped, it is what loses some of
    the model. What was grown once stays."""
    observed = {f.candidate: f for f in findings if isinstance(f, Observation)}
    ranked = {f.method: f.ranked for f in findings if isinstance(f, Sensitivity)}
    yield from space.leaves
    plain = list(space.leaves)
    for leaf in space.leaves:
        for one, other in pairwise(space.line(leaf)):
            if not _short(observed.get(one.name)):
                break
            plain.append(other)
            yield other
    twins = _with_small_tables(space, plain, observed)
    yield from twins.values()
    best = _best([_preferred(c, twins.get(c.name), observed) for c in plain], observed)
    yield from _less(space, best, observed)
    finer: list[Candidate] = []
    for candidate in _to_refine(space, observed):
        for found in _finer(candidate, observed, ranked):
            yield found
            finer += [found] if isinstance(found, Candidate) else []
    if not best:
        yield from _less(space, _best(finer, observed), observed)


def _short(found: Observation | None) -> bool:
    """Whether a method could not be used, or misses the floor by its answers."""
    return found is not None and (found.stage == "Failed" or coarse(found))


def _with_small_tables(
    space: Space, plain: Sequence[Candidate], observed: Mapping[str, Observation]
) -> dict[str, Candidate]:
    """Of the few best that have large tables, and where these are too few of the smallest that are too large and miss nothing else:
    the same with small tables, by the names of those."""
    twins = {c.name: twin for c in plain if c.name in observed and (twin := space.with_small_tables(c))}
    tried = [observed[name] for name in twins]
    good = sorted((o for o in tried if feasible(o)), key=lambda o: cost(o.value))
    near = sorted((o for o in tried if too_large(o)), key=lambda o: o.weights_bytes)
    return {o.candidate: twins[o.candidate] for o in (*good, *near)[:BEST]}


def _preferred(candidate: Candidate, twin: Candidate | None, observed: Mapping[str, Observation]) -> Candidate:
    """Its twin with small tables, which is as fast, if that holds the floor."""
    return twin if twin and feasible(observed.get(twin.name)) else candidate


def _best(candidates: Sequence[Candidate], observed: Mapping[str, Observation]) -> list[Candidate]:
    """The few feasible ones that are best by the objective."""
    good = [c for c in candidates if feasible(observed.get(c.name))]
    return sorted(good, key=lambda c: cost(observed[c.name].value))[:BEST]


def _less(space: Space, best: Sequence[Candidate], observed: Mapping[str, Observation]) -> Iterator[Candidate]:
    """Each candidate behind each pruning that is worth a trial."""
    for candidate, prune in product(best, space.prunings):
        found = pruned(candidate, prune)
        if found.name in observed or _promises(space, candidate, prune, observed):
            yield found


def _promises(space: Space, candidate: Candidate, prune: Sequence[Step], observed: Mapping[str, Observation]) -> bool:
    """Not if a part of the pruning was too much already, if a gentler one is not known to hold the floor, or if more than it may go:
    then it is larger and slower for nothing."""

    def seen(way: Sequence[Step]) -> Observation | None:
        return observed.get(pruned(candidate, tuple(way)).name)

    parts = (part for part in combinations(prune, len(prune) - 1) if part)
    less, more = gentler(prune), (way for way in space.prunings if set(prune) < set(way))
    known = less == prune or feasible(seen(less))
    return known and not any(_short(seen(part)) for part in parts) and not any(feasible(seen(way)) for way in more)


def _to_refine(space: Space, observed: Mapping[str, Observation]) -> Iterator[Candidate]:
    """Of each method and what stands in for it, what answered better, if neither holds the floor."""
    for leaf in space.leaves:
        line = [c for c in space.line(leaf) if c.name in observed]
        if line and not any(feasible(observed[c.name]) for c in line):
            yield max(line, key=lambda c: merit(observed[c.name].screen))


def _finer(
    plain: Candidate, observed: Mapping[str, Observation], ranked: Mapping[str, Sequence[str]]
) -> Iterator[Candidate | Ranking]:
    """A method that misses the floor, with ever more of the parts that suffer most in full precision."""
    candidate = plain
    for count in range(1, MAX_EXCLUDED + 1):
        if candidate.quantize is None or not coarse(observed.get(candidate.name)):
            return
        if plain.method not in ranked:
            yield Ranking(plain)
            return
        parts = ranked[plain.method][:count]
        if len(parts) < count:
            return
        candidate = excluding(plain, parts)
        yield candidate
