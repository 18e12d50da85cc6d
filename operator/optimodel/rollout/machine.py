"""The canary: one pure step from what is observed to what should be.

Preparing → (Shifting → Settling → AwaitingApproval) per step → Promoting → Retaining → nothing in flight; from anywhere
before the commit point → RollingBack → nothing in flight. All memory is in the status, so a restart changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from ..api.durations import seconds
from ..api.spec import Rollout
from ..api.status import RolloutPhase, RolloutStatus
from . import actions, weights
from .place import locate
from .tick import TRAFFIC_LAG, UNREADY_GRACE, Tick
from .types import Decision, Observed


def advance(observed: Observed, status: RolloutStatus | None, spec: Rollout, now: datetime) -> Decision:
    """Decides the next state of a rollout. `status` is `status.rollout`, `now` an aware time. Pure; goes as far as the
    present observation allows, so that the same observation again changes nothing.

    Raises:
        ValueError: a duration of the spec or a time of the status cannot be read.
    """
    t = Tick(observed, spec, now, status, observed.stable, observed.failed_revisions, observed.handled_action)
    actions.handle(t)
    locate(t)
    for _ in range(4 * len(spec.steps) + 16):
        before = (t.status, t.stable)
        t.waits.clear()
        _step(t)
        if (t.status, t.stable) == before:
            break
    return _decision(t)


def _decision(t: Tick) -> Decision:
    routed = t.spec.router is not None
    return Decision(
        rollout=t.status,
        stable=t.stable,
        weights=weights.wanted(t.status, t.stable) if routed else {},
        named=weights.named(t.status, t.stable) if routed else (),
        serve=weights.serve(t.status, t.stable, t.observed),
        min_replicas=weights.floors(t.spec.steps, t.status, t.observed),
        failed_revisions=t.failed,
        handled_action=t.handled,
        events=tuple(t.events),
        requeue_after=min(t.waits, default=None),
        rolled_back=t.rolled_back,
        stalled=t.stalled,
    )


def _step(t: Tick) -> None:
    if t.status is None:
        _begin(t)
    elif t.status.phase in ("Retaining", "RollingBack"):
        _drain(t)
    elif not (_superseded(t) or _harmed(t)):
        _PHASES[t.status.phase](t)


def _begin(t: Tick) -> None:
    o = t.observed
    if not o.deployable or o.candidate in ("", t.stable, *t.failed):
        return
    before = t.seen(t.stable).replicas if t.stable else o.replicas
    t.status = RolloutStatus(
        phase="Preparing",
        stable=t.stable,
        candidate=o.candidate,
        since=t.stamp(),
        started_at=t.stamp(),
        recreate=t.spec.strategy == "Recreate" and bool(t.stable),
        stable_replicas=max(1, min(before or o.replicas, o.max_replicas)),
    )
    t.tell("RolloutStarted", f"revision {o.candidate} is being prepared")


def _superseded(t: Tick) -> bool:
    o, s = t.observed, t.flight
    if o.candidate in ("", s.candidate) or t.committed_to():
        return False
    if o.candidate == s.stable:
        t.back("Reverted", f"the spec asks for stable revision {s.stable} again", failure=False)
    else:
        t.back("Superseded", f"revision {s.candidate} gives way to {o.candidate}", failure=False)
    return True


def _harmed(t: Tick) -> bool:
    s = t.flight
    if weights.effective(s) == "Preparing":
        return False
    if t.seen(s.candidate).endpoints:
        t.set(unready_since="")
        return False
    t.set(unready_since=s.unready_since or t.stamp())
    if not t.passed(t.flight.unready_since, UNREADY_GRACE) or t.forward_only():
        return False
    message = f"revision {s.candidate} had no ready endpoint for {UNREADY_GRACE:.0f} s"
    t.back("CandidateUnready", message, failure=True)
    return True


def _prepare(t: Tick) -> None:
    s = t.flight
    if t.observed.lost and t.observed.candidate == s.candidate:
        t.status = None  # it begins again, with pods and a deadline of its own, once there is something to serve
        return
    others = sorted(t.observed.revisions.keys() - {s.candidate})
    if s.recreate and others:
        t.set(message=f"waiting until revision {others[0]} is gone")
    elif t.enough(weights.target(t.spec.steps, s)):
        _go_on(t, 0)


def _shift(t: Tick) -> None:
    if _steps_over(t):
        return
    s, target = t.flight, weights.target(t.spec.steps, t.flight)
    if s.weight == target and t.in_place():
        t.enter("Settling", weighed_at=t.stamp())
    elif s.weight == target:
        t.set(message=f"waiting until the gateway accepts {target} %")
    elif target < s.weight or t.enough(target):
        t.set(weight=target)


def _settle(t: Tick) -> None:
    if _steps_over(t) or _moved(t):
        return
    s, step = t.flight, t.spec.steps[t.flight.step]
    if not t.in_place():
        t.enter("Shifting", weighed_at="")
    elif t.passed(s.weighed_at, seconds(step.min_duration)):
        if step.approval == "Required" and step.name not in s.approved:
            t.enter("AwaitingApproval")
            t.tell("ApprovalRequired", f"step {step.name} at {s.weight} % waits for {_wish(s)!r}")
        else:
            _go_on(t, s.step + 1)


def _await(t: Tick) -> None:
    if _steps_over(t) or _moved(t):
        return
    step = t.spec.steps[t.flight.step]
    if step.approval is None or step.name in t.flight.approved:
        _go_on(t, t.flight.step + 1)
    else:
        t.set(message=f"waiting for {_wish(t.flight)!r}")


def _wish(s: RolloutStatus) -> str:
    return f"approve {s.candidate}/{s.step_name}"


def _steps_over(t: Tick) -> bool:
    """No step is left, a person passed them all, or nobody can split traffic any more."""
    s = t.flight
    if s.step < len(t.spec.steps) and not s.promote and t.spec.router is not None:
        return False
    t.enter("Promoting", step_name="", weighed_at="")
    return True


def _moved(t: Tick) -> bool:
    """The spec's step has another weight than when it was set."""
    if weights.target(t.spec.steps, t.flight) == t.flight.weight:
        return False
    t.enter("Shifting", weighed_at="")
    return True


def _go_on(t: Tick, step: int) -> None:
    s = t.flight
    if t.spec.router is None or not s.stable or s.recreate or s.promote or step >= len(t.spec.steps):
        t.enter("Promoting", step=step, weighed_at="")
    else:
        t.enter("Shifting", step=step, step_name=t.spec.steps[step].name, weighed_at="")


def _promote(t: Tick) -> None:
    if t.flight.weight != 100:
        if t.enough(100):
            t.set(weight=100, step_name="")
    elif t.in_place():
        t.set(weighed_at=t.flight.weighed_at or t.stamp())
        if t.passed(t.flight.weighed_at, TRAFFIC_LAG) and t.seen(t.flight.candidate).endpoints:
            _commit(t)
    else:
        t.set(weighed_at="", message="waiting until the gateway accepts 100 %")


def _commit(t: Tick) -> None:
    """The one place where the stable revision changes."""
    s = t.flight
    t.stable = s.candidate
    t.tell("Promoted", f"revision {s.candidate} is stable")
    if s.stable and s.stable in t.observed.revisions:
        t.enter("Retaining", weighed_at=t.stamp(), unready_since="")
    else:
        t.status = None


def _drain(t: Tick) -> None:
    """Nobody names the leaving revision any more; its last requests get `drain` to end before its pods go."""
    if not t.in_place():
        t.set(weighed_at="")
        return
    t.set(weighed_at=t.flight.weighed_at or t.stamp())
    if t.passed(t.flight.weighed_at, seconds(t.spec.drain)):
        t.status = None


def _stay(t: Tick) -> None:
    """Paused: weights stay; only harm, a new spec or a person moves it."""


_PHASES: dict[RolloutPhase, Callable[[Tick], None]] = {
    "Preparing": _prepare,
    "Shifting": _shift,
    "Settling": _settle,
    "AwaitingApproval": _await,
    "Promoting": _promote,
    "Paused": _stay,
}
