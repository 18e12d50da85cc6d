"""Two models on the same labelled rows: how much the second loses, and how sure that is."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import NormalDist

from .intervals import Interval

Cell = tuple[int, int, int]
"""Truth, answer before, answer after: each a label's index."""
Cells = Mapping[Cell, int]
"""Rows of each cell."""

RESAMPLES = 2000
SEED = 0


@dataclass(frozen=True)
class Pairs:
    """Answers of the baseline and of the candidate to labelled rows, counted. `share` of the answers counts as independent."""

    cells: Cells
    share: float = 1.0

    @classmethod
    def of(cls, truth: list[int], before: list[int], after: list[int], sizes: Sequence[int] = ()) -> Pairs:
        """Count the answers. The lists are as long as each other; `sizes` are the answers of each row, where rows have many.

        Words of one text are right or wrong together, so they count as if their correlation were whole: n² / Σ sizes²
        independent answers of n, which is the number of texts where all are equally long (Kish 1965, the design effect).
        Intervals are those of that many (Korn & Graubard 1998), so they are too wide rather than too narrow.
        """
        share = len(truth) / sum(size * size for size in sizes) if sizes else 1.0
        return cls(Counter(zip(truth, before, after, strict=True)), share)

    @property
    def rows(self) -> float:
        """How many independent answers there are."""
        return self.share * sum(self.cells.values())


def accuracy_drop(pairs: Pairs, confidence: float) -> Interval | None:
    """Accuracy before − accuracy after with the score interval of a difference of paired proportions (Tango 1998,
    Statistics in Medicine 17). Unlike resampling it does not take rows without a disagreement for proof that there are none.
    """
    n = pairs.rows
    if not n:
        return None
    lost = pairs.share * sum(k for (t, b, a), k in pairs.cells.items() if b == t != a)
    won = pairs.share * sum(k for (t, b, a), k in pairs.cells.items() if a == t != b)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    value = (lost - won) / n
    low = _root(lambda d: _score(lost, won, n, d) - z, -1.0, value)
    high = _root(lambda d: _score(lost, won, n, d) + z, value, 1.0)
    return Interval(value, low, high, round(n))


def _score(lost: float, won: float, n: float, difference: float) -> float:
    """Tango's statistic for a true difference; it falls as the difference grows."""
    b = (2 * n - lost + won) * difference - lost - won
    c = -won * difference * (1 - difference)
    share = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
    spread = n * (2 * share + difference * (1 - difference))
    gap = lost - won - n * difference
    if spread <= 0:
        return math.copysign(math.inf, gap) if abs(gap) > 1e-12 else 0.0
    return gap / math.sqrt(spread)


def _root(f: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function crosses 0, by bisection."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if f(middle) > 0 else (low, middle)
    return (low + high) / 2


def macro_f1(pairs: Pairs, confidence: float) -> Interval | None:
    """Macro F1 of the answers after, with a percentile bootstrap over rows (Efron & Tibshirani 1993)."""
    return _bootstrap(pairs, confidence, lambda cells: f1(cells, 2))


def macro_f1_drop(pairs: Pairs, confidence: float) -> Interval | None:
    """Macro F1 before − after on the same rows, with a percentile bootstrap of the difference.

    Every label lends half a row lost and half a row won to what is resampled (Agresti & Min 2005 do so for proportions):
    few rows of a label without a disagreement are no proof that there is none. Without them 95 % intervals held the truth
    in 79 % of simulated samples of 300 rows and 6 labels.
    """
    return _bootstrap(pairs, confidence, lambda cells: f1(cells, 1) - f1(cells, 2), _lent(pairs.cells))


def f1(cells: Cells, side: int) -> float:
    """Macro F1 of one side (1 = before, 2 = after): the mean over labels that occur as truth of 2TP / (2TP + FP + FN)."""
    truth: Counter[int] = Counter()
    answers: Counter[int] = Counter()
    right: Counter[int] = Counter()
    for cell, rows in cells.items():
        truth[cell[0]] += rows
        answers[cell[side]] += rows
        if cell[0] == cell[side]:
            right[cell[0]] += rows
    return math.fsum(2 * right[k] / (truth[k] + answers[k]) for k in truth) / len(truth) if truth else 0.0


def _lent(cells: Cells) -> dict[Cell, float]:
    """Half a row lost and half a row won for each label, to and from the label after it."""
    labels = sorted({t for t, _, _ in cells})
    if len(labels) < 2:
        return {}
    pairs = zip(labels, labels[1:] + labels[:1], strict=True)
    return {cell: 0.5 for k, other in pairs for cell in ((k, k, other), (k, other, k))}


def _bootstrap(
    pairs: Pairs, confidence: float, statistic: Callable[[Cells], float], lent: Mapping[Cell, float] | None = None
) -> Interval | None:
    """Percentiles of the statistic over `RESAMPLES` seeded resamples of the rows: the same rows give the same bounds."""
    n = round(pairs.rows)
    if n < 2:
        return None
    value = statistic(pairs.cells)
    extra = lent or {}
    cells = sorted(pairs.cells.keys() | extra.keys())
    cumulative = list(accumulate(pairs.share * pairs.cells.get(c, 0) + extra.get(c, 0) for c in cells))
    chance = random.Random(SEED)
    found = sorted(statistic(Counter(chance.choices(cells, cum_weights=cumulative, k=n))) for _ in range(RESAMPLES))
    tail = math.floor(RESAMPLES * (1 - confidence) / 2)
    return Interval(value, min(value, found[tail]), max(value, found[-1 - tail]), n)
