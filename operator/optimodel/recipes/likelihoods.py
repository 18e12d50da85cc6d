"""Two models that read the same texts: how well each expects the next token, and how sure that is.

Every figure is a sum over all tokens divided by their number. Tokens of one text are alike, so texts are what is drawn: the
variance is that of a ratio of two sums over texts (Cochran 1977, Sampling Techniques, §6.3), and the interval is normal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .intervals import Interval, wilson, z_score

LARGEST = 700.0
"""Exponents from here on are more than a float holds."""


class Reading(NamedTuple):
    """One text: the tokens that were to be expected, the sum of −ln p of these by the baseline and by the candidate, and after
    how many tokens both expected the same one most."""

    tokens: int
    before: float
    after: float
    agreed: int


@dataclass(frozen=True)
class Readings:
    """Of the texts of one dataset, each of two tokens or more."""

    texts: tuple[Reading, ...]

    @property
    def tokens(self) -> int:
        """How many tokens were to be expected."""
        return sum(text.tokens for text in self.texts)


def perplexity(readings: Readings, confidence: float) -> Interval | None:
    """exp of the mean −ln p of the candidate; 1 = it knew every token."""
    return _exp(_mean([text.after for text in readings.texts], readings, confidence))


def perplexity_ratio(readings: Readings, confidence: float) -> Interval | None:
    """The candidate's perplexity over the baseline's. What makes a text hard is the same for both, so it is far surer than
    either."""
    return _exp(_mean([text.after - text.before for text in readings.texts], readings, confidence))


def agreement(readings: Readings, confidence: float) -> Interval | None:
    """Share of tokens after which both expect the same one most: Wilson's interval of as many answers as n² / Σ m² with m tokens
    a text and n in all, which is about the number of texts (Kish 1965): too wide rather than too narrow."""
    if not readings.tokens:
        return None
    independent = readings.tokens**2 / sum(text.tokens**2 for text in readings.texts)
    return wilson(sum(text.agreed for text in readings.texts) / readings.tokens, independent, confidence)


def mean_perplexity(readings: Readings, *, before: bool = False) -> float:
    """The perplexity alone, of the baseline or of the candidate."""
    return math.exp(sum(t.before if before else t.after for t in readings.texts) / max(1, readings.tokens))


def _mean(sums: Sequence[float], readings: Readings, confidence: float) -> Interval | None:
    """Sum of the texts' `sums` by token; unbounded for one text, None for none or where one is not finite."""
    texts, tokens = len(sums), readings.tokens
    if not tokens or not all(map(math.isfinite, sums)):
        return None
    value = math.fsum(sums) / tokens
    if texts < 2:
        return Interval(value, -math.inf, math.inf, texts)
    off = math.fsum((s - value * text.tokens) ** 2 for s, text in zip(sums, readings.texts, strict=True))
    reach = z_score(confidence) * math.sqrt(off * texts / (texts - 1)) / tokens
    return Interval(value, value - reach, value + reach, texts)


def _exp(found: Interval | None) -> Interval | None:
    """The interval of the exponential, infinite beyond what a float holds."""
    if found is None:
        return None
    value, low, high = (math.exp(x) if x < LARGEST else math.inf for x in (found.value, found.low, found.high))
    return Interval(value, low, high, found.samples)
