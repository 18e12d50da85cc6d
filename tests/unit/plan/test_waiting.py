"""Pods that do not get on: what they wait for, and that they go on by themselves."""

from __future__ import annotations

import msgspec
import pytest

from optimodel.api.contract import Progress, Result, StepProgress
from optimodel.plan.types import ComplaintTarget
from optimodel.snapshot import COMPLAINT, PROGRESS

from .world import World, result


@pytest.mark.parametrize(
    ("status", "reason", "word"),
    [
        ({"waiting": {"reason": "ImagePullBackOff"}}, "ImagePullFailed", "pull secrets"),
        (
            {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "store" not found'}},
            "SecretNotFound",
            "store",
        ),
        (
            {
                "waiting": {
                    "reason": "CreateContainerConfigError",
                    "message": "couldn't find key AWS_X in Secret a/store",
                }
            },
            "SecretKeyMissing",
            "AWS_X",
        ),
    ],
)
def test_a_pod_that_cannot_start_says_why_and_goes_on_by_itself(
    status: dict[str, object], reason: str, word: str
) -> None:
    w = World()
    w.settle()
    job = w.names("Job")[0]
    w.pod("p", {"job-name": job, "optimodel.dev/model": "m"}, "worker", status, phase="Pending")
    w.settle()
    assert w.condition("Ready", "False", reason) and word in w.message() and not w.condition("Stalled")
    w.pod("p", {"job-name": job, "optimodel.dev/model": "m"}, "worker", {"running": {}}, phase="Running")
    w.settle()
    assert w.condition("Ready", "False", "Optimizing")
    assert w.names("Job") == [job]


def out_of_time(w: World, name: str) -> None:
    """The Job's deadline passed, and its controller took its pod away."""
    job = w.get("Job", name)
    ended = [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]
    w.put({**job, "status": {"conditions": ended}})
    if "p" in w.names("Pod"):
        w.store.remove("Pod", w.get("Pod", "p"))
    w.settle()


def test_a_pod_that_waits_longer_than_the_job_may_take_still_says_for_what() -> None:
    w = World()
    w.settle()
    (first,) = w.names("Job")
    labels = {"job-name": first, "optimodel.dev/model": "m"}
    missing = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "store" not found'}}
    w.pod("p", labels, "worker", missing, phase="Pending")
    w.settle()
    out_of_time(w, first)
    assert w.condition("Ready", "False", "SecretNotFound") and not w.condition("Stalled")
    assert "did not start within spec.optimization.timeout" in w.message()
    w.pass_time(61)
    (second,) = (name for name in w.names("Job") if name != first)
    w.pod("p", labels | {"job-name": second}, "worker", {"running": {}}, phase="Running")
    uid = w.get("Pod", "p")["metadata"]["uid"]
    w.store.set_fact(PROGRESS, uid, Progress("Optimize", (StepProgress("export", "Running", 40, "60"),)))
    w.settle()
    out_of_time(w, second)
    assert w.condition("Stalled", "True", "Timeout"), "it ran, and not fast enough"


def test_a_deadline_is_not_blamed_on_what_failed_before() -> None:
    w = World()
    w.settle()
    w.end_job(Result("Failed", "BucketNotFound", "try this"), code=11)
    w.pass_time(61)
    (second,) = (name for name in w.names("Job") if name.endswith("-a2"))
    out_of_time(w, second)
    assert w.condition("Stalled", "True", "Timeout")


def test_a_worker_that_was_told_to_stop_is_tried_again_however_often() -> None:
    w = World()
    w.settle()
    left = {"exitCode": 11, "message": msgspec.json.encode(Result("Failed", "Interrupted", "try this")).decode()}
    for attempt in range(1, 7):
        (name,) = (n for n in w.names("Job") if n.endswith(f"-a{attempt}"))
        w.pod("p", {"job-name": name, "optimodel.dev/model": "m"}, "worker", {"terminated": left}, phase="Failed")
        pod = w.get("Pod", "p")
        pod["metadata"]["deletionTimestamp"] = w.now.isoformat()
        w.put(pod)
        w.put({**w.get("Job", name), "status": {"conditions": [{"type": "Failed", "status": "True"}]}})
        w.settle()
        assert w.condition("Ready", "False", "Interrupted") and not w.condition("Stalled")
        w.pass_time(1801)


def test_a_runtimes_wrong_image_says_that_the_revision_keeps_it() -> None:
    w = World()
    w.settle()
    w.end_job(result())
    labels = w.get("Deployment", w.names("Deployment")[0])["spec"]["template"]["metadata"]["labels"]
    w.pod("p", labels, "triton", {"waiting": {"reason": "ImagePullBackOff"}}, phase="Pending")
    w.settle()
    assert w.condition("ServingReady", "False", "ImagePullFailed") and "spec.source.refresh" in w.message()


def test_a_missing_claim_is_named() -> None:
    w = World()
    w.settle()
    conditions = [
        {"type": "PodScheduled", "status": "False", "message": '0/1 nodes: persistentvolumeclaim "data" not found.'},
    ]
    w.pod(
        "p",
        {"job-name": w.names("Job")[0], "optimodel.dev/model": "m"},
        "worker",
        {},
        phase="Pending",
        conditions=conditions,
    )
    w.settle()
    assert w.condition("Ready", "False", "ClaimNotFound") and "data" in w.message()


def test_a_job_without_a_pod_says_so() -> None:
    w = World()
    w.settle()
    job = w.get("Job", w.names("Job")[0])
    w.put({**job, "status": {"startTime": w.now.isoformat()}})
    w.pass_time(10)
    assert w.condition("Ready", "False", "Optimizing")
    again = w.step().requeue_after
    assert again is not None and again < 25, "no event tells that nothing happens"
    w.pass_time(15)
    assert w.condition("Ready", "False", "PodNotCreated") and "quota" in w.message()
    uid = w.get("Job", w.names("Job")[0])["metadata"]["uid"]
    assert w.step().complaints == (ComplaintTarget(uid, "a"),)
    for tried in ("x7k2p", "9qv4d"):
        said = f'(combined from similar events): Error creating: pods "m-1-{tried}" is forbidden: exceeded quota: team'
        w.store.set_fact(COMPLAINT, uid, said)
        told = len(w.written)
        w.settle()
        assert "the API server says: exceeded quota: team. Mend" in w.message() and not w.condition("Stalled")
    assert len(w.written) == told, "another pod's name is no news"
    w.pod("p", {"job-name": w.names("Job")[0], "optimodel.dev/model": "m"}, "worker", {"running": {}}, phase="Running")
    assert w.step().complaints == () and w.condition("Ready", "False", "Optimizing")
