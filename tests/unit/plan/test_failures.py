"""Bad input and bad luck: a reason, a way out, no storm, and recovery."""

from __future__ import annotations

import json

import msgspec
import pytest

from optimodel.api.contract import GateResult, Progress, Result, StepProgress
from optimodel.snapshot import PROGRESS

from .world import SPEC, World, result


def failed(reason: str, message: str = "try this") -> Result:
    return Result("Failed", reason, message)


def number(w: World) -> int:
    """Which attempt is under way."""
    return int(w.status["attempt"].get("number", 1))


def quality(w: World) -> tuple[str, str]:
    """What the revision itself says of its gates."""
    (revision,) = w.names("ModelRevision")
    found = next(c for c in w.get("ModelRevision", revision)["status"]["conditions"] if c["type"] == "QualityPassed")
    return found["status"], found["reason"]


def test_what_the_world_can_mend_is_tried_again_ever_more_rarely() -> None:
    w = World()
    w.settle()
    starts = []
    for _ in range(7):
        w.end_job(failed("BucketNotFound"), code=11)
        assert w.condition("Ready", "False", "BucketNotFound") and not w.condition("Stalled")
        rest, before, waited = w.version, number(w), 0
        while number(w) == before and waited < 4000:
            w.pass_time(30)
            waited += 30
        starts.append(waited)
        assert rest < w.version
    assert starts == [60, 120, 240, 480, 960, 1800, 1800]
    w.end_job(result())
    w.start_pods()
    assert w.condition("Ready") and "lastFailure" not in w.status


@pytest.mark.parametrize(("reason", "code"), [("PickleWeights", 10), ("UnsupportedArchitecture", 10)])
def test_what_only_the_spec_can_mend_waits_for_the_spec(reason: str, code: int) -> None:
    w = World()
    w.settle()
    w.end_job(failed(reason), code=code)
    assert w.condition("Stalled", "True", reason) and w.status["phase"] == "Failed"
    rest = w.version
    w.pass_time(86_400)
    assert w.version == rest, "no retry storm"
    w.store.remove("Job", w.get("Job", w.names("Job")[0]))
    w.pass_time(86_400)
    assert w.names("Job") == [], "nor when the Job's time to live is over"
    assert w.status["lastFailure"]["reason"] == reason
    w.edit(source={"s3": {"url": "s3://models/better"}})
    w.settle()
    assert not w.condition("Stalled") and "lastFailure" not in w.status
    w.end_job(result())
    w.start_pods()
    assert w.condition("Ready")


def test_a_revision_that_failed_says_so_again_when_it_is_asked_for_again() -> None:
    w, bad = World(), {"s3": {"url": "s3://models/bad"}}
    w.serve()
    w.edit(source=bad)
    w.settle()
    w.end_job(failed("PickleWeights"), code=10)
    w.edit(source=SPEC["source"])
    w.settle()
    assert w.condition("Ready") and "lastFailure" not in w.status
    w.edit(source=bad)
    w.settle()
    assert w.condition("Stalled", "True", "PickleWeights") and w.status["lastFailure"]["reason"] == "PickleWeights"


def test_a_message_longer_than_the_status_holds_is_written_once() -> None:
    w = World()
    w.settle()
    gates = tuple(GateResult(f"gate-{n}", "CosineMean", "Fail", message="too far off. " * 9) for n in range(12))
    w.end_job(result(outcome="Failed", reason="GateFailed", gates=gates), code=12)
    rest = w.version
    w.pass_time(60)
    assert w.version == rest


def test_out_of_memory_is_mended_by_more_memory() -> None:
    w = World()
    w.settle()
    w.end_job(None, code=137, reason="OOMKilled")
    assert w.condition("Stalled", "True", "OutOfMemory") and "podTemplate.resources.limits.memory" in w.message()
    w.edit(optimization=SPEC["optimization"] | {"podTemplate": {"resources": {"limits": {"memory": "8Gi"}}}})
    w.settle()
    assert not w.condition("Stalled") and w.condition("Ready", "False", "Optimizing")


def test_a_missed_gate_names_its_number_and_new_gates_judge_again() -> None:
    w = World()
    w.settle()
    gate = GateResult("close", "CosineMean", "Fail", value="0.95", bound="min 0.99")
    w.end_job(result(outcome="Failed", reason="GateFailed", gates=(gate,)), code=12)
    assert w.condition("Stalled", "True", "GateFailed") and w.condition("QualityPassed", "False", "GateFailed")
    assert "0.95" in w.message() and w.names("Deployment") == []
    assert quality(w) == ("False", "GateFailed")
    hash = w.status["revision"]
    w.edit(optimization=SPEC["optimization"] | {"gates": [{"name": "size", "metric": "SizeRatio", "max": "0.5"}]})
    w.settle()
    assert w.status["revision"] == hash and not w.condition("Stalled"), "the same artifact is judged again"
    w.end_job(result(gates=(GateResult("size", "SizeRatio", "Pass", value="0.3"),)))
    w.start_pods()
    assert w.condition("Ready")
    assert quality(w) == ("True", "GatesPassed") and w.message("QualityPassed") == "the gate passed"


def test_a_lost_result_is_looked_up_by_another_job() -> None:
    w = World()
    w.settle()
    w.end_job(None)
    w.pass_time(10)
    assert number(w) == 2 and len(w.names("Job")) == 1
    w.end_job(result())
    w.start_pods()
    assert w.condition("Ready")


@pytest.mark.parametrize(
    ("ending", "left", "code", "told"),
    [
        ("Complete", result(), 0, ("Optimized", "True", "Optimized")),
        ("Failed", failed("PickleWeights"), 10, ("Stalled", "True", "PickleWeights")),
        ("FailureTarget", failed("PickleWeights"), 10, ("Stalled", "True", "PickleWeights")),
    ],
)
def test_a_job_whose_end_is_seen_before_its_pods_keeps_its_result(
    ending: str, left: Result, code: int, told: tuple[str, str, str]
) -> None:
    w = World()
    w.settle()
    job = w.get("Job", w.names("Job")[0])
    labels = job["spec"]["template"]["metadata"]["labels"] | {"job-name": job["metadata"]["name"]}
    w.pod("p", labels, "worker", {"running": {}}, phase="Running")
    w.put({**job, "status": {"conditions": [{"type": ending, "status": "True"}]}})
    w.settle()
    assert w.condition("Ready", "False", "Optimizing") and "lastFailure" not in w.status
    ended = {"terminated": {"exitCode": code, "message": msgspec.json.encode(left).decode()}}
    w.pod("p", labels, "worker", ended, phase="Failed" if code else "Succeeded")
    w.settle()
    assert w.condition(*told) and number(w) == 1


def test_a_pod_that_was_disrupted_does_not_speak_for_the_one_in_its_place() -> None:
    w = World()
    w.settle()
    job = w.get("Job", w.names("Job")[0])["metadata"]
    said = msgspec.json.encode(failed("StoreUnreachable")).decode()
    for name in ("a", "z"):
        ended = {"terminated": {"exitCode": 11, "message": said}}
        w.pod(f"{job['name']}-{name}", job["labels"] | {"job-name": job["name"]}, "worker", ended, phase="Failed")
    w.end_job(result())
    assert w.condition("Optimized") and not w.condition("Stalled") and "lastFailure" not in w.status
    w.serve()
    assert w.condition("Ready")


def test_a_result_that_no_status_could_hold_is_no_result() -> None:
    w = World()
    w.settle()
    w.end_job(result(steps=(StepProgress("graph", "Done", 400),)))
    assert w.status["lastFailure"]["reason"] == "ResultLost"
    assert all(step.get("percent", 0) <= 100 for step in w.status.get("steps", []))
    w.pass_time(6)
    w.end_job(result())
    w.serve()
    assert w.condition("Ready")


def test_steps_that_were_told_stay_while_the_worker_cannot_be_asked() -> None:
    w = World()
    w.settle()
    job = w.get("Job", w.names("Job")[0])
    labels = job["spec"]["template"]["metadata"]["labels"] | {"job-name": job["metadata"]["name"]}
    w.pod("p", labels, "worker", {"running": {}}, phase="Running")
    uid = w.get("Pod", "p")["metadata"]["uid"]
    w.store.set_fact(
        PROGRESS, uid, Progress("Optimize", (StepProgress("Fetch", "Done"), StepProgress("graph", "Running")))
    )
    w.settle()
    assert w.message("Optimized") == "step graph (2 of 2) is running"
    w.store.set_fact(PROGRESS, uid, None)
    w.settle()
    assert [step["name"] for step in w.status["steps"]] == ["Fetch", "graph"]
    assert w.message("Optimized") == "step graph (2 of 2) is running"


def test_retry_is_heard_at_once_and_only_once() -> None:
    w = World()
    w.settle()
    w.end_job(failed("PickleWeights"), code=10)
    w.act(f"retry {w.status['revision']}")
    w.settle()
    assert number(w) == 2 and not w.condition("Stalled")
    w.end_job(failed("PickleWeights"), code=10)
    assert w.condition("Stalled") and number(w) == 2


def test_an_action_that_is_cut_at_a_blank_is_heard_once() -> None:
    w = World()
    w.settle()
    w.end_job(failed("PickleWeights"), code=10)
    w.act(f"retry {w.status['revision']}".ljust(600) + "because")
    w.settle()
    w.end_job(failed("PickleWeights"), code=10)
    assert w.condition("Stalled") and number(w) == 2 and "ActionRefused" not in w.events


def test_a_model_that_triton_cannot_load_is_stalled_after_the_deadline() -> None:
    w = World(SPEC | {"rollout": {"progressDeadline": "2m"}})
    w.settle()
    w.end_job(result())
    labels = w.get("Deployment", w.names("Deployment")[0])["spec"]["template"]["metadata"]["labels"]
    last = {"terminated": {"exitCode": 1, "message": "failed to load 'm-core': bad graph"}}
    w.pod("p", labels, "triton", {"waiting": {"reason": "CrashLoopBackOff"}}, phase="Running")
    pod = w.get("Pod", "p")
    pod["status"]["containerStatuses"][0]["lastState"] = last
    w.put(pod)
    w.settle()
    assert w.condition("ServingReady", "False", "ModelLoadFailed") and "bad graph" in w.message("ServingReady")
    w.pass_time(121)
    assert w.condition("Stalled", "True", "ProgressDeadlineExceeded") and "bad graph" in w.message("Stalled")


def test_the_reason_goes_when_it_is_over() -> None:
    w = World()
    w.settle()
    w.end_job(msgspec.structs.replace(failed("StoreUnreachable")), code=11)
    assert w.status["lastFailure"]["reason"] == "StoreUnreachable"
    w.pass_time(61)
    w.end_job(result())
    w.start_pods()
    assert "lastFailure" not in w.status


def test_a_missed_gate_is_measured_again_when_asked_even_after_another_revision() -> None:
    w = World()
    w.settle()
    gate = GateResult("close", "CosineMean", "Fail", value="0.95", bound="min 0.99")
    w.end_job(result(outcome="Failed", reason="GateFailed", gates=(gate,)), code=12)
    w.edit(source={"s3": {"url": "s3://models/other"}})
    w.settle()
    w.edit(source=SPEC["source"])
    w.settle()
    assert w.condition("Stalled", "True", "GateFailed")
    w.act(f"retry {w.status['revision']}")
    w.settle()
    assert len(w.names("Job")) == 1
    assert w.condition("Ready", "False", "Optimizing") and w.condition("QualityPassed", "Unknown")
    w.end_job(result())
    w.start_pods()
    assert w.condition("Ready")


def test_pods_that_crash_at_first_are_told_under_ready() -> None:
    w = World()
    w.settle()
    w.end_job(result())
    crash(w, "ArtifactMissing")
    assert w.condition("Ready", "False", "ArtifactMissing") and "retry" in w.message()


def test_bytes_that_went_are_made_again_when_asked() -> None:
    w = World()
    w.settle()
    w.end_job(result())
    crash(w, "ArtifactMissing")
    assert len(w.names("Job")) == 1
    w.act(f"retry {w.status['revision']}")
    w.settle()
    assert number(w) == 2 and "ActionRefused" not in w.events
    w.end_job(result())
    w.stop_pods(w.status["revision"])
    w.start_pods()
    w.settle()
    assert w.condition("Ready")


def crash(w: World, reason: str) -> None:
    """Let the pull of the only Deployment's pod end so."""
    labels = w.get("Deployment", w.names("Deployment")[0])["spec"]["template"]["metadata"]["labels"]
    said = json.dumps({"reason": reason, "message": "gone. Restore it, or make it again by the action retry."})
    w.pod("p", labels, "pull", {"waiting": {"reason": "CrashLoopBackOff"}}, phase="Pending")
    pod = w.get("Pod", "p")
    statuses = pod["status"].pop("containerStatuses")
    statuses[0]["lastState"] = {"terminated": {"exitCode": 11, "message": said}}
    w.put(pod | {"status": pod["status"] | {"initContainerStatuses": statuses}})
    w.settle()
