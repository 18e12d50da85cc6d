"""Where in its steps a rollout stands. It is known by the step's name: a person may edit the steps under way."""

from __future__ import annotations

from collections.abc import Sequence

from ..api.spec import RolloutStep
from ..api.status import RolloutStatus
from .tick import Tick
from .weights import STEPPING, effective


def locate(t: Tick) -> None:
    """Finds the present step in the steps as they are now. A wait for an approval begins anew at another step, and a
    promotion that has not given the candidate everything yet goes back to a step that it has not passed."""
    s = t.status
    if s is None or s.promote or not (effective(s) in STEPPING or _may_go_back(t)):
        return
    at = place(t.spec.steps, s)
    name = t.spec.steps[at].name if at < len(t.spec.steps) else ""
    if s.phase == "Promoting":
        if name:
            t.enter("Shifting", step=at, step_name=name, weighed_at="")
        return
    if name != s.step_name and s.phase == "AwaitingApproval":
        t.enter("Settling")
    elif name != s.step_name and s.paused_from == "AwaitingApproval":
        t.set(paused_from="Settling")
    t.set(step=at, step_name=name)


def _may_go_back(t: Tick) -> bool:
    s = t.flight
    return s.phase == "Promoting" and s.weight < 100 and bool(s.stable) and not s.recreate and t.spec.router is not None


def place(steps: Sequence[RolloutStep], status: RolloutStatus) -> int:
    """Index of the step that has the status' name, which a promotion has passed. If an approval is lacking at an earlier
    one that is not below the present weight, it is that one: no edit passes it. A step that is gone or passed gives way
    to the first that is not below the present weight; `len(steps)` = there is none."""
    over = status.step_name not in {step.name for step in steps}
    reached = 0
    for at, step in enumerate(steps):
        here = step.name == status.step_name
        if here and status.phase != "Promoting":
            return at
        reached = reached if step.weight is None else step.weight
        closed = step.approval is not None and step.name not in status.approved
        if reached >= status.weight and (over or closed):
            return at
        over = over or here
    return len(steps)
