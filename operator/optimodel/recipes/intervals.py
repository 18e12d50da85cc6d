"""An estimate with its bounds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """An estimate with its bounds; infinite where the sample is too small to say."""

    value: float
    low: float
    high: float
    samples: int
