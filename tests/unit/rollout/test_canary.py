"""The way of a revision, told as examples: what users see of weights, pods and the stable revision."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.rollout.world import CANARY, World, settled

from optimodel.api.spec import Rollout, RolloutStep


def test_first_revision_takes_all_traffic_once_ready() -> None:
    w = World()
    w.run(10)
    assert (w.stable, w.weights, w.phase) == ("", {}, "Preparing")
    w.until("")
    assert (w.stable, w.weights) == ("a", {"a": 100})
    assert w.told("Promoted") == ["revision a is stable"]


def test_first_revision_that_never_starts_stalls_and_a_new_spec_replaces_it() -> None:
    w = World(broken={"a"})
    w.run(310)
    assert w.last is not None
    assert w.last.stalled is not None
    assert w.last.stalled[0] == "ProgressDeadlineExceeded"
    w.candidate = "b"
    w.run(60)
    assert (w.stable, set(w.pods)) == ("b", {"b"})


def test_canary_walks_its_steps_and_retires_the_old_revision() -> None:
    w = settled()
    seen: list[tuple[str, int]] = []
    for _ in range(400):
        w.reconcile()
        if w.status and (not seen or seen[-1] != (w.phase, w.status.weight)):
            seen.append((w.phase, w.status.weight))
        if w.phase == "AwaitingApproval":
            w.action = "approve b/half"
        w.move(1)
    assert seen == [
        ("Preparing", 0),
        ("Shifting", 10),
        ("Settling", 10),
        ("Shifting", 50),
        ("Settling", 50),
        ("AwaitingApproval", 50),
        ("Promoting", 100),
        ("Retaining", 100),
    ]
    assert (w.stable, w.weights, set(w.pods), w.failed) == ("b", {"b": 100}, {"b"}, ())


def test_min_duration_counts_from_acceptance_by_the_gateway() -> None:
    w = settled(gateway_delay=30.0)
    w.until("Shifting")
    shifted = w.clock
    w.until("Settling")
    assert w.clock - shifted >= 30
    accepted = w.clock
    w.until("Shifting")
    assert w.clock - accepted == 60


def test_requeue_tells_when_time_alone_changes_the_decision() -> None:
    w = settled()
    w.until("Settling")
    assert w.reconcile().requeue_after == 60.0
    w.move(45)
    assert w.reconcile().requeue_after == 15.0


def test_weights_edited_by_hand_are_taken_back_and_the_step_starts_over() -> None:
    w = settled()
    w.until("Settling")
    w.move(50)
    w.weights = {"a": 1, "b": 99}
    w.accepted = False
    w.written_at = w.clock
    w.reconcile()
    assert (w.phase, w.weights) == ("Shifting", {"a": 90, "b": 10})
    w.until("Settling")
    assert w.reconcile().requeue_after == 60.0


def test_replicas_are_raised_before_the_weight() -> None:
    w = settled(replicas=10)
    w.replicas = 1
    w.until("Settling")
    assert w.endpoints("b") == 1
    assert w.pods["a"].replicas == 10
    w.move(60)
    w.reconcile()
    assert (w.weights["b"], w.pods["b"].replicas) == (10, 5)
    w.move(19)
    w.reconcile()
    assert w.weights["b"] == 10
    w.move(1)
    w.reconcile()
    assert w.weights["b"] == 50


def test_candidate_that_does_not_start_is_turned_back_without_traffic() -> None:
    w = settled(broken={"b"})
    w.run(310)
    assert (w.stable, w.weights, set(w.pods), w.failed, w.phase) == ("a", {"a": 100}, {"a"}, ("b",), "")
    assert w.told("ProgressDeadlineExceeded") == ["revision b did not have 1 ready endpoint within 5m"]


def test_candidate_that_stops_being_ready_is_turned_back_after_the_grace() -> None:
    w = settled()
    w.until("Settling")
    w.broken = {"b"}
    w.run(9)
    assert w.phase == "Settling"
    w.run(2)
    assert (w.phase, w.weights) == ("RollingBack", {"a": 100})
    assert "b" in w.pods
    w.run(30)
    assert (w.phase, set(w.pods), w.failed) == ("", {"a"}, ("b",))
    w.broken = set()
    w.run(300)
    assert w.told("RolloutStarted") == ["revision b is being prepared"]


def test_short_unreadiness_is_forgiven() -> None:
    w = settled()
    w.until("Settling")
    for _ in range(3):
        w.broken = {"b"}
        w.run(8)
        w.broken = set()
        w.run(3)
    assert w.phase == "Settling"


def test_pause_keeps_the_weight_and_the_harm_check() -> None:
    w = settled()
    w.until("Settling")
    w.action = "pause b"
    w.run(500)
    assert (w.phase, w.weights) == ("Paused", {"a": 90, "b": 10})
    w.action = "resume b"
    w.run(3)
    assert (w.phase, w.weights) == ("Settling", {"a": 50, "b": 50})
    w.action = "pause b #2"
    w.run(3)
    assert w.phase == "Paused"
    w.broken = {"b"}
    w.run(30)
    assert w.failed == ("b",)


@pytest.mark.parametrize("phase", ["Preparing", "Shifting", "Settling", "AwaitingApproval"])
def test_abort_goes_back_and_only_retry_tries_again(phase: str) -> None:
    w = settled()
    w.until(phase)
    w.action = "abort b"
    w.run(30)
    assert (w.stable, w.weights, set(w.pods), w.failed, w.phase) == ("a", {"a": 100}, {"a"}, ("b",), "")
    w.run(100)
    assert w.phase == ""
    w.action = "retry b"
    w.until("Settling")
    assert w.failed == ()


def test_promote_skips_steps_but_not_readiness() -> None:
    w = settled()
    w.action = "promote b"
    w.reconcile()
    w.action = "promote b #2"
    w.run(10)
    assert (w.phase, w.weights) == ("Preparing", {"a": 100})
    w.run(60)
    assert (w.stable, w.stables) == ("b", ["a", "b"])


@pytest.mark.parametrize(
    ("action", "why"),
    [
        ("abort a", "revision a is not being rolled out"),
        ("approve b", "there is no step ''"),
        ("approve b/none", "there is no step 'none'"),
        ("resume b", "the rollout is not paused"),
        ("retry b", "revision b has not failed"),
        ("dance b", "write approve HASH/STEP"),
        ("abort", "revision (none) is not being rolled out"),
    ],
)
def test_action_that_does_not_fit_is_refused_once(action: str, why: str) -> None:
    w = settled()
    w.until("Settling")
    before = w.rollout
    w.action = action
    w.run(3)
    assert len(w.told("ActionRefused")) == 1
    assert why in w.told("ActionRefused")[0]
    assert w.rollout == before


def test_approval_given_early_counts_and_never_passes_to_another_revision() -> None:
    w = settled()
    w.until("Settling")
    w.action = "approve b/half"
    w.reconcile()
    w.candidate = "c"
    w.until("AwaitingApproval")
    assert w.status is not None
    assert (w.status.candidate, w.status.approved) == ("c", ())
    w.run(100)
    assert w.phase == "AwaitingApproval"


def test_new_spec_takes_the_candidate_back_before_the_next_starts() -> None:
    w = settled()
    w.until("AwaitingApproval")
    w.candidate = "c"
    w.reconcile()
    assert (w.phase, w.weights, w.named) == ("RollingBack", {"a": 100}, frozenset({"a"}))
    assert "c" not in w.pods
    w.until("Preparing")
    assert w.status is not None
    assert (w.status.stable, w.status.candidate, w.status.step, w.failed) == ("a", "c", 0, ())
    assert set(w.pods) == {"a", "c"}


def test_spec_back_to_stable_ends_the_rollout_without_a_failure() -> None:
    w = settled()
    w.until("Settling")
    w.candidate = "a"
    w.run(40)
    assert (w.phase, w.weights, w.failed, set(w.pods)) == ("", {"a": 100}, (), {"a"})
    w.candidate = "b"
    w.until("Settling")


def test_promotion_goes_forward_when_stable_is_gone() -> None:
    w = settled()
    w.reconcile()
    w.action = "promote b"
    w.until("Promoting")
    assert w.weights == {"b": 100}
    w.broken = {"a"}
    w.action = "abort b"
    w.candidate = "c"
    w.run(5)
    assert w.stable == "b"
    assert "goes forward" in w.told("ActionRefused")[0]


def test_gateway_that_does_not_accept_holds_everything() -> None:
    w = settled()
    w.until("Shifting")
    w.gateway_works = False
    w.run(400)
    assert (w.phase, w.stable, set(w.pods)) == ("Shifting", "a", {"a", "b"})
    w.action = "abort b"
    w.run(100)
    assert (w.phase, set(w.pods)) == ("RollingBack", {"a", "b"})
    w.gateway_works = True
    w.run(30)
    assert (w.phase, set(w.pods)) == ("", {"a"})


def test_without_a_router_traffic_switches_when_ready() -> None:
    w = settled(spec=Rollout(drain="15s"))
    w.run(19)
    assert (w.stable, w.phase) == ("a", "Preparing")
    w.until("Retaining")
    assert (w.stable, set(w.pods)) == ("b", {"a", "b"})
    w.run(16)
    assert (w.phase, set(w.pods)) == ("", {"b"})


def test_recreate_starts_the_new_revision_after_the_old_is_gone() -> None:
    w = settled(spec=msgspec.structs.replace(CANARY, strategy="Recreate"))
    w.reconcile()
    assert set(w.pods) == set()
    w.move(1)
    w.reconcile()
    assert set(w.pods) == {"b"}
    w.run(60)
    assert (w.stable, w.weights, w.phase) == ("b", {"b": 100}, "")


def test_recreate_that_fails_brings_the_old_revision_back() -> None:
    w = settled(spec=msgspec.structs.replace(CANARY, strategy="Recreate"), broken={"b"})
    w.run(400)
    assert (w.stable, set(w.pods), w.failed) == ("a", {"a"}, ("b",))
    assert w.endpoints("a") == 2


def test_revision_that_did_not_pass_its_gates_takes_nothing() -> None:
    w = settled(deployable=True)
    w.deployable = False
    w.run(100)
    assert (w.phase, w.weights, set(w.pods)) == ("", {"a": 100}, {"a"})


def test_revision_named_only_by_header_is_kept_until_the_gateway_forgot_it() -> None:
    steps = (RolloutStep("look", 0, "0s", "Required"),)
    w = settled(spec=msgspec.structs.replace(CANARY, steps=steps, drain="0s"))
    w.until("AwaitingApproval")
    w.run(5)
    assert (w.weights, w.named) == ({"a": 100}, frozenset({"a", "b"}))
    w.action = "abort b"
    w.reconcile()
    assert (w.named, set(w.pods)) == (frozenset({"a"}), {"a", "b"})
    w.run(5)
    assert set(w.pods) == {"a"}


def test_promotion_with_both_revisions_dead_does_not_go_back() -> None:
    w = settled(gateway_delay=15.0)
    w.reconcile()
    w.action = "promote b"
    w.until("Promoting")
    w.broken = {"a", "b"}
    w.move(1)
    w.reconcile()
    w.gateway_works = False
    w.run(60)
    assert (w.phase, w.weights, w.failed) == ("Promoting", {"b": 100}, ())


def test_pause_while_preparing_prepares_again() -> None:
    w = settled()
    w.reconcile()
    w.action = "pause b"
    w.run(60)
    w.broken = {"b"}
    w.action = "resume b"
    w.run(30)
    assert (w.phase, w.weights) == ("Preparing", {"a": 100})


def test_stable_keeps_its_replicas_and_the_candidate_gets_its_share() -> None:
    w = settled(replicas=10)
    w.replicas = 1
    w.until("Settling")
    assert w.reconcile().min_replicas == {"a": 10, "b": 1}
    w.action = "promote b"
    assert w.reconcile().min_replicas == {"a": 10, "b": 10}
    w.until("Retaining")
    assert w.reconcile().min_replicas == {"a": 10, "b": 10}
    w.run(20)
    assert w.reconcile().min_replicas == {}


@pytest.mark.parametrize("routed", [True, False], ids=["router", "no-router"])
def test_the_candidate_keeps_its_pods_until_its_traffic_has_left(routed: bool) -> None:
    w = settled(replicas=10, spec=CANARY if routed else Rollout(drain="15s"))
    w.replicas = 1
    w.until("AwaitingApproval" if routed else "Promoting")
    pods = 5 if routed else 10
    w.action = "abort b"
    for _ in range(10):
        assert w.reconcile().min_replicas == {"a": 10, "b": pods}
        assert w.phase == "RollingBack"
        w.move(1)
    w.run(20)
    assert (w.phase, set(w.pods)) == ("", {"a"})


def test_a_route_edited_by_hand_starts_no_pods() -> None:
    w = settled(replicas=10)
    w.replicas = 1
    w.until("Settling")
    w.weights = {"a": 1, "b": 99}
    assert w.reconcile().min_replicas == {"a": 10, "b": 1}
