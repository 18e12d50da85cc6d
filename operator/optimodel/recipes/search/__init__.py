"""The search behind `optimization.auto`, pure: what may be tried, what comes next, and who wins. The worker measures."""

from .choice import Choice, choose, finalist, front
from .findings import Finding, Observation, Part, Sensitivity, feasible, quality
from .rules import check
from .space import Candidate, Space, excluding, prunings
from .trials import ENDLESS, Budget, Ranking, next_trial, tree

__all__ = [
    "ENDLESS",
    "Budget",
    "Candidate",
    "Choice",
    "Finding",
    "Observation",
    "Part",
    "Ranking",
    "Sensitivity",
    "Space",
    "check",
    "choose",
    "excluding",
    "feasible",
    "finalist",
    "front",
    "next_trial",
    "prunings",
    "quality",
    "tree",
]
