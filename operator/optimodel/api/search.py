"""`optimization.auto`: what a search for the best steps is asked, and what it says."""

from __future__ import annotations

from typing import Literal

from .struct import Label, Number, Struct, Words

Objective = Literal["Latency", "Size", "Throughput", "Cost"]
"""What is to be small: the time of a request at the first shape; the weights; the time that a text takes at the shape of the
largest batch; that time times the weights, which is memory held for that long."""


class Auto(Struct, frozen=True):
    """Let the operator find the steps that follow those of `steps`: how to quantize, and by leave how to prune. The floor is every
    gate of the object, measured on `validation`; the gates themselves judge the winner, on their own data."""

    validation: str
    """Data that candidates are compared on. No step reads it, and no gate judges on it."""
    objective: Objective = "Latency"
    train: str | None = None
    """Data that candidates learn from (calibration, pruning); left out = those that need any are not tried."""
    prune: tuple[Literal["FFN", "Layers", "Vocabulary"], ...] = ()
    """How candidates may also lose some of the model: half of the feed-forward neurons or a quarter, every other layer (both
    recovered by training), the tokens that `train` never uses."""
    trials: int = 16
    timeout: str = "30m"
    """No trial begins after this time of searching, over all attempts."""
    seed: int = 0


class SearchResult(Struct, frozen=True):
    """What a search has found. `winner` is empty where no candidate held the floor: then the baseline is kept."""

    objective: Objective
    reason: Words
    winner: Label = ""
    trials: Number = 0
    feasible: Number = 0
    """Trials that held the floor."""
