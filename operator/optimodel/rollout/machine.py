"""The canary: one pure step from what is observed to what should be."""

from __future__ import annotations

from datetime import datetime

from ..api.spec import Rollout
from ..api.status import RolloutStatus
from .types import Decision, Observed


def advance(observed: Observed, status: RolloutStatus | None, spec: Rollout, now: datetime) -> Decision:
    """Decides the next state of a rollout. `status` is `status.rollout`, `now` is aware UTC. Pure and idempotent."""
    raise NotImplementedError
