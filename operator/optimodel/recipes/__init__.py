"""Recipes, pure: legal order of steps, identity hashes and gate verdicts. Shared by operator and worker."""

from .data import evidence, gate_dataset, read_by, shards, trains
from .metrics import DATA_METRICS, LABEL_METRICS
from .problem import Problem
from .rules import check

__all__ = [
    "DATA_METRICS",
    "LABEL_METRICS",
    "Problem",
    "check",
    "evidence",
    "gate_dataset",
    "read_by",
    "shards",
    "trains",
]
