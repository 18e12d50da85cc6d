"""Recipes, pure: legal order of steps, identity hashes and gate verdicts. Shared by operator and worker."""

from .rules import DATA_METRICS, Problem, check, gate_dataset

__all__ = ["DATA_METRICS", "Problem", "check", "gate_dataset"]
