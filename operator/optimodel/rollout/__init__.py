"""The rollout of a new revision as a pure state machine: what is observed in, what should be out, clock passed in."""

from .machine import advance
from .types import Decision, Event, Observed, RouteState, Seen

__all__ = ["Decision", "Event", "Observed", "RouteState", "Seen", "advance"]
