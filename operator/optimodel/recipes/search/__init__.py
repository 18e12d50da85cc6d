"""The search behind `optimization.auto`, pure: what may be tried, what comes next, and who wins. The worker measures."""

from .choice import Choice, choose, front, unbeaten
from .findings import Finding, Observation, Part, Sensitivity, Timing, feasible, quality
from .noise import final, finalists, settled
from .rules import check
from .space import Candidate, Space, excluding, prunings
from .trials import ENDLESS, Budget, Final, Ranking, named, next_measurement, next_trial, tree

__all__ = [
    "ENDLESS",
    "Budget",
    "Candidate",
    "Choice",
    "Final",
    "Finding",
    "Observation",
    "Part",
    "Ranking",
    "Sensitivity",
    "Space",
    "Timing",
    "check",
    "choose",
    "excluding",
    "feasible",
    "final",
    "finalists",
    "front",
    "named",
    "next_measurement",
    "next_trial",
    "prunings",
    "quality",
    "settled",
    "tree",
    "unbeaten",
]
