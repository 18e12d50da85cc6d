"""reconcile(key): snapshot, plan, write. The whole loop, in one screen."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from . import snapshot
from .errors import ApiError
from .machinery.store import Store
from .plan.decide import decide
from .plan.types import ComplaintTarget, Plan, Platform, ProbeTarget, ProgressTarget

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""Namespace and name of an OptimizedModel."""


class Writes(Protocol):
    """Carries a plan out."""

    async def write(self, key: Key, plan: Plan) -> None:
        """Do what the plan says, skipping what is so already."""

    def behind(self, key: Key) -> bool:
        """Whether the store has not yet seen our own last write to this object."""


class Polls(Protocol):
    """Asks for what no watch tells."""

    def want(
        self,
        key: Key,
        probes: Sequence[ProbeTarget],
        progress: Sequence[ProgressTarget],
        complaints: Sequence[ComplaintTarget],
    ) -> None:
        """From now on poll exactly these for this object."""


def _now() -> datetime:
    return datetime.now(UTC)


class Controller:
    """Level-triggered: looks at what is, decides what should be, makes it so."""

    def __init__(
        self, store: Store, writer: Writes, polls: Polls, platform: Platform, clock: Callable[[], datetime] = _now
    ) -> None:
        self._store, self._writer, self._polls, self._platform, self._clock = store, writer, polls, platform, clock

    async def reconcile(self, key: Key) -> float | None:
        """Works on one object; returns the seconds after which time alone changes something, or None.

        Raises:
            ApiError: a write was refused; the queue tries again later, at `look_again` at the latest.
        """
        if self._writer.behind(key):
            return None
        try:
            seen = snapshot.take(self._store, *key, self._platform, self._clock())
        except msgspec.ValidationError as e:
            log.error("%s/%s does not fit this version of the operator: %s", *key, e)
            return None
        if seen is None:
            self._polls.want(key, (), (), ())
            return None
        plan = decide(seen)
        self._polls.want(key, plan.probes, plan.progress, plan.complaints)
        try:
            await self._writer.write(key, plan)
        except ApiError as error:
            error.look_again = plan.requeue_after
            raise
        return plan.requeue_after
