"""New versions: what rolls, what does not, and the canary as the routes show it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from optimodel.api import names
from optimodel.plan.decide import decide
from optimodel.snapshot import MODEL, take

from .world import PLATFORM, ROUTER, RUNTIME, SPEC, World, result

CANARY = {
    "router": ROUTER,
    "steps": [{"name": "probe", "weight": 10, "minDuration": "30s"}, {"name": "half", "weight": 50}],
    "drain": "5s",
}
OTHER = {"s3": {"url": "s3://models/other", "secretRef": {"name": "store"}}}


def canary() -> tuple[World, str, str]:
    """A world in which a second revision is optimized; returns it with both hashes."""
    w = World(SPEC | {"rollout": CANARY})
    w.serve()
    old = w.status["stableRevision"]
    w.edit(source=OTHER)
    w.settle()
    w.end_job(result("sha256:bb"))
    return w, old, w.status["revision"]


def test_replicas_gates_and_rollout_settings_make_no_revision() -> None:
    w = World()
    w.serve()
    hash = w.status["revision"]
    w.edit(serving={"replicas": 3}, rollout={"progressDeadline": "5m"})
    w.settle()
    assert w.status["revision"] == hash and w.condition("Ready")
    assert w.get("Deployment", f"m-{hash}")["spec"]["replicas"] == 3


def test_editing_the_runtime_rolls_nothing() -> None:
    w = World()
    w.serve()
    hash = w.status["revision"]
    w.set_runtime({"image": "triton:2"})
    w.settle()
    assert w.status["revision"] == hash and w.condition("Outdated") and w.condition("Ready")
    assert "triton:1" in str(w.get("Deployment", f"m-{hash}"))
    w.edit(source=SPEC["source"] | {"refresh": "1"})
    w.settle()
    assert w.status["revision"] != hash and not w.condition("Outdated")
    w.set_runtime(RUNTIME)


def test_an_upgrade_of_the_operator_rolls_nobodys_pods() -> None:
    from optimodel.plan.decide import decide
    from optimodel.plan.types import Platform
    from optimodel.snapshot import take

    w = World()
    w.serve()
    seen = take(w.store, "a", "m", Platform("worker:2", "operator:2"), w.now)
    assert seen is not None
    for manifest in decide(seen).apply:
        assert "operator:2" not in str(manifest) and manifest["kind"] != "Job"


def test_a_canary_whose_pod_finds_no_node_says_so() -> None:
    w, _, new = canary()
    labels = w.get("Deployment", f"m-{new}")["spec"]["template"]["metadata"]["labels"]
    full = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 Insufficient cpu."}
    w.pod("m-new", labels, "triton", {}, phase="Pending", conditions=[full])
    w.settle()
    reason, message = _ready(w)
    assert reason == "RolloutInProgress"
    assert message.startswith("Preparing: ")
    assert message.endswith(f"; Unschedulable: no node can take the pod: {full['message']}")
    w.store.remove("Pod", w.get("Pod", "m-new"))
    w.start_pods()
    assert "Unschedulable" not in _ready(w)[1]


def test_the_canary_moves_step_by_step() -> None:
    w, old, new = canary()
    assert w.weights() == {old: 100}
    w.start_pods()
    assert (
        w.weights() == {old: 90, new: 10}
        and w.condition("Ready", "False", "RolloutInProgress")
        and w.condition("Available")
    )
    assert w.status["canary"] == "10%"
    w.accept_routes()
    w.pass_time(27)
    assert w.weights() == {old: 90, new: 10}
    w.pass_time(2)
    assert w.weights() == {old: 50, new: 50}
    w.accept_routes()
    w.settle()
    assert w.weights() == {new: 100}
    w.accept_routes()
    assert w.status["stableRevision"] == new and w.condition("Ready")
    assert f"m-{old}" in w.names("Deployment"), "the old revision drains first"
    w.pass_time(6)
    assert w.names("Deployment") == [f"m-{new}"]
    assert w.condition("Ready") and w.status["phase"] == "Ready"


def test_who_dies_before_the_status_takes_no_weight_back() -> None:
    w, old, new = canary()
    w.start_pods()
    w.accept_routes()
    w.now += timedelta(seconds=30)
    w.step(dies=True)
    w.settle()
    assert w.weights() == {old: 50, new: 50}


def test_a_candidate_that_stops_answering_goes_back_and_is_not_tried_again() -> None:
    w, old, new = canary()
    w.start_pods()
    w.accept_routes()
    w.stop_pods(new)
    w.pass_time(11)
    assert w.weights() == {old: 100}
    w.accept_routes()
    w.pass_time(6)
    assert w.names("Deployment") == [f"m-{old}"]
    assert w.condition("RolledBack") and w.condition("Stalled", "True", "RolledBack") and w.condition("Available")
    w.pass_time(3600)
    assert w.names("Deployment") == [f"m-{old}"]
    w.act(f"retry {new}")
    w.settle()
    assert f"m-{new}" in w.names("Deployment") and not w.condition("RolledBack")


def test_abort_and_return_to_the_old_spec() -> None:
    w, old, new = canary()
    w.start_pods()
    w.accept_routes()
    w.act(f"abort {new}")
    w.settle()
    assert w.weights() == {old: 100}
    w.accept_routes()
    w.pass_time(6)
    w.edit(source=SPEC["source"])
    w.settle()
    assert w.status["revision"] == old and w.condition("Ready") and not w.condition("RolledBack")
    assert len([j for j in w.names("Job") if f"m-{old}" in j]) <= 1, "a kept revision needs no new Job"


def test_without_a_router_traffic_switches_when_ready() -> None:
    w = World()
    w.serve()
    old = w.status["stableRevision"]
    w.edit(source=OTHER)
    w.settle()
    w.end_job(result("sha256:bb"))
    selector = w.get("Service")["spec"]["selector"]["optimodel.dev/revision"]
    assert selector == old
    w.start_pods()
    assert w.get("Service")["spec"]["selector"]["optimodel.dev/revision"] == w.status["revision"] != old
    w.pass_time(60)
    assert w.names("Deployment") == [f"m-{w.status['revision']}"]


def test_history_is_kept_to_its_limit() -> None:
    w = World(SPEC | {"rollout": {"revisionHistoryLimit": 1}})
    w.serve()
    for i in range(4):
        w.edit(source={"s3": {"url": f"s3://models/v{i}", "secretRef": {"name": "store"}}})
        w.settle()
        w.end_job(result(f"sha256:{i}"))
        w.start_pods()
        w.pass_time(60)
    assert len(w.names("ModelRevision")) == 2


def test_the_autoscaler_owns_replicas() -> None:
    w = World(SPEC | {"serving": {"autoscaling": {"minReplicas": 2, "maxReplicas": 5}}})
    w.serve()
    assert w.condition("Ready", "False"), "one pod of two is not enough"
    w.start_pods(count=2)
    assert w.condition("Ready")
    name = w.names("Deployment")[0]
    assert "replicas" not in w.get("Deployment", name)["spec"]
    assert w.get("HorizontalPodAutoscaler", name)["spec"]["minReplicas"] == 2
    w.edit(serving={"replicas": 1})
    w.settle()
    assert w.names("HorizontalPodAutoscaler") == []


def test_replicas_pass_to_an_autoscaler_without_a_reset() -> None:
    w = World(SPEC | {"serving": {"replicas": 3}})
    w.settle()
    w.end_job(result())
    w.start_pods(count=3)
    w.edit(serving={"autoscaling": {"minReplicas": 1, "maxReplicas": 5}})
    (kept,) = w.step().handover
    assert kept["spec"] == {"replicas": 3}
    assert w.step().handover == ()


def test_a_fence_goes_when_the_installation_wants_none() -> None:
    w = World()
    w.serve()
    seen = take(w.store, "a", "m", replace(PLATFORM, network_policy=True), w.now)
    assert seen is not None
    [fence] = [m for m in decide(seen).apply if m["kind"] == "NetworkPolicy"]
    w.put(fence)
    w.settle()
    assert w.names("NetworkPolicy") == [] and w.condition("Ready")


def test_naming_another_runtime_rolls_unless_it_is_the_same() -> None:
    w = World()
    w.serve()
    hash = w.status["revision"]
    for name, image in (("twin", "triton:1"), ("next", "triton:2")):
        w.put({"kind": "ClusterTritonRuntime", "metadata": {"name": name, "namespace": ""}, "spec": {"image": image}})
    w.edit(serving={"runtimeRef": {"name": "twin"}})
    w.settle()
    assert w.status["revision"] == hash and w.condition("Ready")
    w.edit(serving={"runtimeRef": {"name": "next"}})
    w.settle()
    assert w.status["revision"] != hash


def test_quick_edits_do_not_push_a_result_out_of_the_history() -> None:
    w = World(SPEC | {"rollout": {"revisionHistoryLimit": 1}})
    w.serve()
    good = w.status["revision"]
    w.edit(task="TextClassification")
    w.serve()
    w.pass_time(60)
    assert w.status["stableRevision"] != good
    for n in range(3):
        w.edit(source={**SPEC["source"], "refresh": str(n)})
        w.settle()
    assert f"m-{good}" in w.names("ModelRevision")


def test_the_phase_tells_of_the_spec_and_not_of_a_rollout_that_is_over() -> None:
    w = World()
    w.serve()
    w.edit(task="TextClassification")
    w.serve()
    assert w.status["rollout"]["phase"] == "Retaining"
    w.edit(task="TextEmbedding", source={**SPEC["source"], "refresh": "again"})
    w.settle()
    assert (w.status["phase"], w.condition("Ready", "False", "Optimizing")) == ("Optimizing", True)


@pytest.mark.parametrize(
    "lie", [{"stableRevision": "deadbeef"}, {"rollout": {"phase": "Shifting", "stable": "dead", "candidate": "beef"}}]
)
def test_a_status_that_tells_of_revisions_that_are_not_there_moves_no_traffic(lie: dict[str, Any]) -> None:
    w = World(SPEC | {"rollout": {"router": ROUTER}})
    w.serve()
    assert w.condition("Ready")
    good, live = w.status["stableRevision"], w.get(MODEL)
    w.put({**live, "status": {**live["status"], **lie}})
    w.settle()
    assert (w.weights(), w.names("Deployment")) == ({good: 100}, [f"m-{good}"])
    assert w.get("Service")["spec"]["selector"][names.REVISION] == good
    w.accept_routes()
    w.pass_time(60)
    assert w.condition("Ready") and w.status["stableRevision"] == good


def _roll(w: World, hash: str, **counts: int) -> None:
    """Say what the Deployment's controller says."""
    live = w.get("Deployment", f"m-{hash}")
    seen = {"observedGeneration": live["metadata"]["generation"], "replicas": 1, "updatedReplicas": 1}
    w.put({**live, "status": seen | counts})
    w.settle()


def _ready(w: World) -> tuple[str, str]:
    (found,) = (c for c in w.status["conditions"] if c["type"] == "Ready")
    return found["reason"], found["message"]


def test_new_serving_settings_are_ready_when_their_pods_are() -> None:
    w = World()
    w.serve()
    hash = w.status["stableRevision"]
    _roll(w, hash)
    assert w.condition("Ready")
    w.edit(serving={"resources": {"limits": {"memory": "3Gi"}}})
    w.step()
    assert _ready(w) == ("ReplacingPods", f"the pods of revision {hash} are about to be replaced"), "not yet applied"
    w.settle()
    assert _ready(w)[0] == "ReplacingPods", "applied, and not yet seen by its controller"
    _roll(w, hash, replicas=2)
    assert _ready(w) == ("ReplacingPods", f"1 pod of revision {hash} still to be replaced")
    assert (w.status["phase"], w.condition("Available"), w.condition("ServingReady")) == ("Deploying", True, True)
    labels = w.get("Deployment", f"m-{hash}")["spec"]["template"]["metadata"]["labels"]
    full = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 Insufficient memory."}
    w.pod("m-new", labels, "triton", {}, phase="Pending", conditions=[full])
    w.settle()
    assert _ready(w) == ("Unschedulable", f"no node can take the pod: {full['message']}")
    assert w.status["lastFailure"]["reason"] == "Unschedulable"
    w.store.remove("Pod", w.get("Pod", "m-new"))
    _roll(w, hash)
    assert w.condition("Ready") and "lastFailure" not in w.status


def test_new_serving_settings_applied_before_a_kill_are_not_ready_either() -> None:
    w = World()
    w.serve()
    _roll(w, w.status["stableRevision"])
    w.edit(serving={"resources": {"limits": {"memory": "3Gi"}}})
    w.step(dies=True)
    w.step()
    assert _ready(w)[0] == "ReplacingPods", "Ready was said of the generation before"


def test_an_autoscaler_at_work_takes_no_readiness_away() -> None:
    w = World()
    w.serve()
    hash = w.status["stableRevision"]
    _roll(w, hash)
    live = w.get("Deployment", f"m-{hash}")
    live["spec"]["replicas"], live["metadata"]["generation"] = 3, live["metadata"]["generation"] + 1
    before = len(w.written)
    w.put(live)
    w.settle()
    assert w.condition("Ready")
    _roll(w, hash, replicas=3, updatedReplicas=3)
    assert w.condition("Ready") and len(w.written) == before


def test_a_deployment_of_a_time_before_templates_were_marked_is_not_about_to_be_replaced() -> None:
    w = World()
    w.serve()
    live = w.get("Deployment", f"m-{w.status['stableRevision']}")
    del live["metadata"]["annotations"][names.TEMPLATE]
    w.put(live)
    w.step()
    assert w.condition("Ready")
