"""An estimate with its bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True)
class Interval:
    """An estimate with its bounds; infinite where the sample is too small to say."""

    value: float
    low: float
    high: float
    samples: int


def z_score(confidence: float) -> float:
    """How many standard deviations a two-sided normal interval reaches."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def wilson(share: float, n: float, confidence: float) -> Interval:
    """Wilson's score interval (1927) of a share of `n` independent answers."""
    z = z_score(confidence)
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    reach = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, max(0.0, centre - reach), min(1.0, centre + reach), round(n))
