"""A small world for the rollout machine: a clock, pods that take time to start, a gateway that takes time to accept.

Each reconcile writes the status through JSON and back, so every tick is a restart of the operator.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec

from optimodel.api.durations import seconds
from optimodel.api.spec import ParentRef, Rollout, RolloutStep, Router
from optimodel.api.status import RolloutStatus
from optimodel.rollout import Decision, Event, Observed, RouteState, Seen, advance
from optimodel.rollout.weights import STEPPING

ROUTER = Router(parent_refs=(ParentRef("gw"),))
STEPS = (
    RolloutStep("try", 10, "60s"),
    RolloutStep("half", 50, "60s", "Required"),
)
CANARY = Rollout(router=ROUTER, steps=STEPS, progress_deadline="5m", drain="15s")


@dataclass
class Pods:
    """A Deployment: how many are asked for and since when; broken pods are never ready."""

    replicas: int
    asked_at: float
    before: int = 0


@dataclass
class World:
    """Everything outside the machine, plus the stored status of the object."""

    spec: Rollout = CANARY
    candidate: str = "a"
    deployable: bool = True
    action: str = ""
    replicas: int = 2
    startup: float = 20.0
    gateway_delay: float = 2.0
    gateway_works: bool = True
    clock: float = 0.0
    stable: str = ""
    rollout: bytes = b"null"
    failed: tuple[str, ...] = ()
    handled: str = ""
    broken: set[str] = field(default_factory=set)
    pods: dict[str, Pods] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    named: frozenset[str] = frozenset()
    written_at: float = 0.0
    accepted: bool = False
    left_at: dict[str, float] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    stables: list[str] = field(default_factory=list)
    last: Decision | None = None

    @property
    def now(self) -> datetime:
        """The clock as a time."""
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.clock)

    @property
    def status(self) -> RolloutStatus | None:
        """The stored rollout."""
        return msgspec.json.decode(self.rollout, type=RolloutStatus | None)

    @property
    def phase(self) -> str:
        """Its phase; empty = nothing in flight."""
        return self.status.phase if self.status else ""

    def endpoints(self, hash: str) -> int:
        """Ready endpoints of a revision."""
        pods = self.pods.get(hash)
        if pods is None or hash in self.broken:
            return 0
        return pods.replicas if self.clock - pods.asked_at >= self.startup else min(pods.before, pods.replicas)

    def observe(self) -> Observed:
        """What the operator would see."""
        seen = {h: Seen(self.endpoints(h) > 0, self.endpoints(h), p.replicas) for h, p in self.pods.items()}
        return Observed(
            candidate=self.candidate,
            deployable=self.deployable,
            stable=self.stable,
            revisions=seen,
            route=RouteState(dict(self.weights), self.named, self.accepted),
            replicas=self.replicas,
            action=self.action,
            handled_action=self.handled,
            failed_revisions=self.failed,
        )

    def reconcile(self) -> Decision:
        """One pass of the operator: decide, check the answer, write."""
        decision = advance(self.observe(), self.status, self.spec, self.now)
        self.check(decision)
        self.write(decision)
        self.last = decision
        return decision

    def check(self, d: Decision) -> None:
        """What must hold of every decision."""
        assert not d.weights or sum(d.weights.values()) == 100
        assert all(0 < w <= 100 for w in d.weights.values())
        assert set(d.weights) <= set(d.named)
        recreate = d.rollout is not None and d.rollout.recreate
        going_back = d.rollout is None or d.rollout.phase == "RollingBack"
        for hash, weight in d.weights.items():
            raised = weight > self.weights.get(hash, 0)
            assert not raised or going_back or recreate or self.endpoints(hash) > 0, f"{weight} % for dead {hash}"
            assert hash in d.serve or recreate
        if d.stable != self.stable:
            assert self.spec.router is None or (self.accepted and self.weights == {d.stable: 100})
            assert self.endpoints(d.stable) > 0
        self._check_retired(d)
        self._check_steps(d)
        self._check_floors(d)

    def _check_steps(self, d: Decision) -> None:
        """Whatever became of the steps: no more traffic without the approvals that stand between."""
        s, before = d.rollout, self.status
        if s is None or before is None or s.phase not in (*STEPPING, "Promoting"):
            return
        steps = self.spec.steps
        walked = s.recreate or not s.stable or self.spec.router is None or before.weight == 100
        assert s.phase == "Promoting" or steps[s.step].name == s.step_name
        if s.promote or s.candidate != before.candidate or (s.phase == "Promoting" and walked):
            return
        reached = 0
        for step in steps:
            reached = reached if step.weight is None else step.weight
            if step.approval and step.name not in s.approved and reached >= before.weight:
                assert s.weight <= reached, f"{s.weight} % without approval of {step.name} at {reached} %"

    def _check_floors(self, d: Decision) -> None:
        """Pods go after their traffic."""
        if d.rollout is None or d.rollout.recreate:
            return
        for hash, weight in self.weights.items():
            share = -(-d.rollout.stable_replicas * weight // 100)
            assert d.min_replicas.get(hash, share) >= min(share, self.pods[hash].replicas if hash in self.pods else 0)

    def _check_retired(self, d: Decision) -> None:
        for hash in self.pods.keys() - set(d.serve):
            if d.rollout is None or not d.rollout.recreate:
                assert hash not in d.weights
            if self.spec.router is not None and hash in self.left_at and self.stable and not self._recreated():
                assert self.accepted, f"{hash} deleted before the gateway let go of it"
                assert self.clock - self.left_at[hash] >= seconds(self.spec.drain)

    def _recreated(self) -> bool:
        return self.spec.strategy == "Recreate"

    def write(self, d: Decision) -> None:
        """Objects, status and route as decided."""
        for hash in self.pods.keys() - set(d.serve):
            self.pods.pop(hash, None)
            self.left_at.pop(hash, None)
        for hash in d.serve:
            least = max(self.replicas, d.min_replicas.get(hash, 0))
            have = self.pods.setdefault(hash, Pods(least, self.clock))
            if have.replicas < least:
                self.pods[hash] = Pods(least, self.clock, self.endpoints(hash))
        if d.stable != self.stable:
            self.stables.append(d.stable)
        self.stable, self.failed, self.handled = d.stable, d.failed_revisions, d.handled_action
        self.rollout = msgspec.json.encode(d.rollout)
        self.events += d.events
        self._write_route(d)

    def _write_route(self, d: Decision) -> None:
        if self.spec.router is None or (dict(d.weights), frozenset(d.named)) == (self.weights, self.named):
            return
        for gone in self.named - set(d.named):
            self.left_at[gone] = float("inf")
        for back in d.named:
            self.left_at.pop(back, None)
        self.weights, self.named = dict(d.weights), frozenset(d.named)
        self.accepted, self.written_at = False, self.clock

    def move(self, seconds: float) -> None:
        """Time passes; the gateway may accept what was written."""
        self.clock += seconds
        if not self.accepted and self.gateway_works and self.clock - self.written_at >= self.gateway_delay:
            self.accepted = True
            self.left_at = {h: min(at, self.clock) for h, at in self.left_at.items()}

    def run(self, seconds: float, tick: float = 1.0) -> None:
        """Reconciles once every tick."""
        end = self.clock + seconds
        while self.clock < end:
            self.reconcile()
            self.move(tick)
        self.reconcile()

    def until(self, phase: str, limit: float = 600.0) -> None:
        """Runs until the phase is reached.

        Raises:
            AssertionError: it was not reached within `limit` seconds of the world.
        """
        end = self.clock + limit
        self.reconcile()
        while self.phase != phase:
            assert self.clock < end, f"still {self.phase or 'idle'}, not {phase}: {self.status}"
            self.move(1.0)
            self.reconcile()

    def told(self, reason: str) -> list[str]:
        """Messages of the events with that reason."""
        return [e.message for e in self.events if e.reason == reason]


def settled(**changes: object) -> World:
    """A world in which revision `a` is stable, and the spec now asks for `b`."""
    w = World(**changes)  # type: ignore[arg-type]
    w.run(60)
    assert (w.stable, w.phase) == ("a", "")
    w.candidate = "b"
    w.events.clear()
    return w
