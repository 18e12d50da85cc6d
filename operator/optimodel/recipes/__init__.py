"""Typed recipes, pure: the legal order of steps, identity hashes and gate verdicts. Shared by the operator and the worker."""

from .rules import DATA_METRICS, Problem, check, gate_dataset

__all__ = ["DATA_METRICS", "Problem", "check", "gate_dataset"]
