"""Steps of a canary that are edited while it walks them."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.rollout.world import CANARY, settled

from optimodel.api.spec import RolloutStep


def test_step_changed_under_way_is_followed() -> None:
    w = settled()
    w.until("Settling")
    w.spec = msgspec.structs.replace(CANARY, steps=(RolloutStep("try", 25, "60s"),))
    w.run(5)
    assert (w.phase, w.weights) == ("Settling", {"a": 75, "b": 25})
    w.spec = msgspec.structs.replace(CANARY, steps=())
    w.run(60)
    assert (w.stable, w.phase) == ("b", "")


THREE = (RolloutStep("a", 5), RolloutStep("b", 20, approval="Required"), RolloutStep("c", 80))


@pytest.mark.parametrize(
    ("steps", "weight", "waits_for"),
    [
        (THREE[1:], 20, "b"),
        (THREE[:1], 20, ""),
        ((RolloutStep("zero", 0), *THREE), 20, "b"),
        ((RolloutStep("zero", 0, approval="Required"), *THREE), 20, "b"),
        ((THREE[0], RolloutStep("b2", 20, approval="Required"), THREE[2]), 20, "b2"),
        ((THREE[0], RolloutStep("soon", 20, approval="Required"), *THREE[1:]), 20, "soon"),
        ((THREE[0], RolloutStep("b", 10, approval="Required"), THREE[2]), 10, "b"),
    ],
    ids=["passed-goes", "last-stays", "one-before", "gate-below", "renamed", "gate-before", "lower"],
)
@pytest.mark.parametrize("paused", [False, True], ids=["", "paused"])
def test_no_edit_of_the_steps_passes_an_approval(
    steps: tuple[RolloutStep, ...], weight: int, waits_for: str, paused: bool
) -> None:
    w = settled(spec=msgspec.structs.replace(CANARY, steps=THREE))
    w.until("AwaitingApproval")
    if paused:
        w.action = "pause b"
        w.reconcile()
    w.spec = msgspec.structs.replace(CANARY, steps=steps)
    w.reconcile()
    if paused:
        w.action = "resume b"
    w.run(10)
    if not waits_for:
        assert w.stable == "b", "what is left of the steps is passed"
        return
    assert w.status is not None
    assert (w.phase, w.weights["b"], w.status.step_name) == ("AwaitingApproval", weight, waits_for)
    assert w.status.message == f"waiting for 'approve b/{waits_for}'"
    assert w.told("ApprovalRequired")[-1] == f"step {waits_for} at {weight} % waits for 'approve b/{waits_for}'"
    w.action = f"approve b/{waits_for} #2"
    w.reconcile()
    assert w.weights["b"] == (20 if waits_for == "soon" else 80)


def test_a_gate_put_before_a_step_that_was_not_reached_holds() -> None:
    """On the way to `b`, whose pods are still starting: what is put between is not passed by its name."""
    a, b = RolloutStep("a", 5, "60s"), RolloutStep("b", 80)
    w = settled(replicas=10, spec=msgspec.structs.replace(CANARY, steps=(a, b)))
    w.replicas = 1
    w.until("Settling")
    w.until("Shifting")
    assert w.status is not None
    assert (w.status.step_name, w.weights["b"]) == ("b", 5)
    w.spec = msgspec.structs.replace(CANARY, steps=(a, RolloutStep("gate", 40, approval="Required"), b))
    w.run(100)
    assert (w.phase, w.status.step_name, w.weights["b"]) == ("AwaitingApproval", "gate", 40)


HALF = RolloutStep("half", 50, approval="Required")


@pytest.mark.parametrize(
    ("steps", "weight", "waits_for"),
    [
        ((HALF, RolloutStep("most", 80, approval="Required")), 80, "most"),
        ((HALF, RolloutStep("look", approval="Required")), 50, "look"),
        ((RolloutStep("again", 50, approval="Required"), HALF), 50, "again"),
        ((RolloutStep("most", 80, approval="Required"),), 80, "most"),
        ((RolloutStep("few", 5, approval="Required"), HALF), 50, ""),
        ((), 50, ""),
    ],
    ids=["added", "no-weight", "gate-before", "replaced", "below", "none"],
)
def test_a_step_added_while_the_pods_for_everything_still_start_is_walked(
    steps: tuple[RolloutStep, ...], weight: int, waits_for: str
) -> None:
    w = settled(replicas=4, spec=msgspec.structs.replace(CANARY, steps=(HALF,)))
    w.replicas = 1
    w.until("AwaitingApproval")
    w.action = "approve b/half"
    w.until("Promoting")
    w.run(3)
    assert (w.phase, w.weights) == ("Promoting", {"a": 50, "b": 50})
    waiting = w.status
    w.run(3)
    assert w.status == waiting, "what it has passed is not walked again"
    w.spec = msgspec.structs.replace(CANARY, steps=steps)
    w.reconcile()
    if not waits_for:
        assert (w.phase, w.weights) == ("Promoting", {"a": 50, "b": 50})
    else:
        w.run(60)
        assert w.status is not None
        assert (w.phase, w.status.step_name, w.weights["b"]) == ("AwaitingApproval", waits_for, weight)
        w.action = f"approve b/{waits_for}"
    w.run(60)
    assert (w.stable, w.phase) == ("b", "")


def test_a_step_without_an_approval_that_is_added_then_is_walked_too() -> None:
    w = settled(replicas=4, spec=msgspec.structs.replace(CANARY, steps=(HALF,)))
    w.replicas = 1
    w.until("AwaitingApproval")
    w.action = "approve b/half"
    w.until("Promoting")
    w.spec = msgspec.structs.replace(CANARY, steps=(HALF, RolloutStep("most", 80, "30s")))
    w.until("Shifting")
    assert w.status is not None and w.status.step_name == "most"
    w.run(120)
    assert (w.stable, w.phase) == ("b", "")
