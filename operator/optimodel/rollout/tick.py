"""The workspace of one decision, and the moves that several phases share."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from ..api.durations import seconds
from ..api.spec import Rollout
from ..api.status import RolloutPhase, RolloutStatus
from . import weights
from .types import Event, Observed, Seen

UNREADY_GRACE = 10.0
"""Seconds without a ready endpoint after which a candidate has stopped being Ready."""
TRAFFIC_LAG = 2.0
"""Seconds until proxies are taken to act on what was written: a gateway's status comes before its proxies, and every
node's kube-proxy follows a Service in its own time."""
MAX_FAILED = 10
"""Failed revisions that are remembered."""


@dataclass
class Tick:
    """Inputs and what has been decided so far."""

    observed: Observed
    spec: Rollout
    now: datetime
    status: RolloutStatus | None
    stable: str
    failed: tuple[str, ...]
    handled: str
    events: list[Event] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    rolled_back: tuple[str, str] | None = None
    stalled: tuple[str, str] | None = None

    @property
    def flight(self) -> RolloutStatus:
        """The rollout in flight; asked only by those who know that there is one."""
        assert self.status is not None
        return self.status

    def stamp(self) -> str:
        """Now, as the status writes it."""
        return self.now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def seen(self, hash: str) -> Seen:
        """The objects of a revision; empty if it has none."""
        return self.observed.revisions.get(hash, Seen())

    def set(self, **changes: Any) -> None:
        """Changes fields of the rollout in flight."""
        self.status = msgspec.structs.replace(self.flight, **changes)

    def enter(self, phase: RolloutPhase, **changes: Any) -> None:
        """Begins a phase."""
        self.set(phase=phase, since=self.stamp(), message="", **changes)

    def tell(self, reason: str, message: str, *, warn: bool = False) -> None:
        """Emits an event."""
        self.events.append(Event("Warning" if warn else "Normal", reason, message))

    def passed(self, since: str, duration: float) -> bool:
        """Whether `duration` seconds went by; if not, the decision is looked at again when they have."""
        gone = (self.now - datetime.fromisoformat(since)).total_seconds()
        if gone < duration:
            self.waits.append(duration - gone)
        return gone >= duration

    def in_place(self) -> bool:
        """Whether the gateway accepted exactly the weights and rules wanted now. True without a router."""
        if self.spec.router is None:
            return True
        route = self.observed.route
        return (
            route.accepted
            and dict(route.weights) == weights.wanted(self.status, self.stable)
            and route.named == frozenset(weights.named(self.status, self.stable))
        )

    def forward_only(self) -> bool:
        """Promoting while stable has no ready endpoint: going back would answer nobody."""
        s = self.flight
        return weights.effective(s) == "Promoting" and self.seen(s.stable).endpoints == 0

    def committed_to(self) -> bool:
        """As `forward_only`, and all traffic is on a candidate that answers: nothing, not even a person, turns back."""
        s = self.flight
        return self.forward_only() and s.weight == 100 and self.seen(s.candidate).endpoints > 0

    def back(self, reason: str, message: str, *, failure: bool) -> None:
        """Turns the rollout back. A candidate that never had a route rule simply goes."""
        s = self.flight
        if failure:
            self.failed = (*(h for h in self.failed if h != s.candidate), s.candidate)[-MAX_FAILED:]
            self.rolled_back = (reason, message)
        self.tell(reason, message, warn=failure)
        if weights.effective(s) == "Preparing" or not s.stable:
            self.status = None
            return
        self.enter("RollingBack", weight=0, weighed_at="", unready_since="", paused_from=None)
        self.set(reason=reason, message=message)

    def enough(self, weight: int) -> bool:
        """Whether the candidate has what it needs to take `weight`. Past the progress deadline it is turned back."""
        s = self.flight
        need, seen = weights.needed(s, weight, self.observed), self.seen(s.candidate)
        if seen.ready and seen.endpoints >= need:
            return True
        self.set(message=f"revision {s.candidate} needs {_ready(need)} for {weight} %, has {seen.endpoints}")
        if self.passed(s.since, seconds(self.spec.progress_deadline)):
            self._late(need)
        return False

    def _late(self, need: int) -> None:
        s = self.flight
        message = f"revision {s.candidate} did not have {_ready(need)} within {self.spec.progress_deadline}"
        if not s.stable:
            self.stalled = ("ProgressDeadlineExceeded", message)
        elif not self.forward_only():
            self.back("ProgressDeadlineExceeded", message, failure=True)


def _ready(count: int) -> str:
    return f"{count} ready endpoint" + ("" if count == 1 else "s")
