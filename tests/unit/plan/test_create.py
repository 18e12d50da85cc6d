"""From nothing to Ready, seen as the user sees it."""

from __future__ import annotations

import msgspec
import pytest

from .world import ROUTER, SPEC, World, result


def test_an_object_becomes_ready_and_rests() -> None:
    w = World()
    w.settle()
    assert w.status["phase"] == "Optimizing"
    assert w.condition("Ready", "False", "Optimizing")
    w.end_job(result())
    assert w.condition("Optimized") and w.condition("QualityPassed") and w.condition("Ready", "False")
    w.start_pods(answers=None)
    assert w.condition("Ready", "False"), "a pod that kubelet calls ready but that has not answered is not Ready"
    w.start_pods()
    assert w.condition("Ready", "True", "Serving") and w.condition("Available")
    assert w.status["phase"] == "Ready"
    assert w.status["size"] == "85.8Mi->21.9Mi"
    assert w.status["quality"] == "0.992"
    assert w.get("Service")["spec"]["selector"]["optimodel.dev/revision"] == w.status["stableRevision"]
    rest = w.version
    w.pass_time(3600)
    assert w.version == rest, "steady state writes nothing"


def test_few_status_writes_from_create_to_ready() -> None:
    w = World(SPEC | {"rollout": {"router": ROUTER}})
    w.serve()
    assert w.condition("Ready")
    assert len(w.written) <= 6
    assert len(w.written) == len({str(x) for x in w.written}), "no status is written twice"


def test_behind_a_gateway_ready_waits_for_its_acceptance() -> None:
    w = World(SPEC | {"rollout": {"router": ROUTER}})
    w.settle()
    w.end_job(result())
    w.start_pods()
    assert w.condition("Ready", "False") and w.condition("RouteReady", "False")
    w.accept_routes(lag=0)
    assert w.condition("Ready", "False"), "acceptance is told before the proxies act on it"
    w.pass_time(2)
    assert w.condition("Ready") and w.condition("RouteReady")
    assert w.weights() == {w.status["revision"]: 100}


def test_every_condition_carries_the_objects_own_generation() -> None:
    w = World()
    w.serve()
    w.edit(serving={"replicas": 2})
    w.settle()
    assert w.status["observedGeneration"] == 2
    assert {c["observedGeneration"] for c in w.status["conditions"]} == {2}


def test_children_are_owned_and_restricted() -> None:
    w = World()
    w.serve()
    pods = [w.get("Job", w.names("Job")[0])["spec"]["template"]["spec"]]
    pods.append(w.get("Deployment", w.names("Deployment")[0])["spec"]["template"]["spec"])
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] and pod["automountServiceAccountToken"] is False
        for c in [*pod["containers"], *pod.get("initContainers", [])]:
            assert c["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert (
                c["securityContext"]["readOnlyRootFilesystem"] and not c["securityContext"]["allowPrivilegeEscalation"]
            )
    for kind in ("Job", "Deployment", "Service", "ModelRevision"):
        for name in w.names(kind):
            assert w.get(kind, name)["metadata"]["ownerReferences"][0]["name"] == "m"


def test_suspend_stops_the_job_and_keeps_serving() -> None:
    w = World()
    w.serve()
    w.edit(source={"s3": {"url": "s3://models/other"}}, suspend=True)
    w.settle()
    assert w.condition("Suspended") and w.condition("Available") and w.condition("Ready", "False")
    running = [j for j in w.names("Job") if w.status["revision"] in j]
    assert running == []
    w.edit(suspend=False)
    w.settle()
    assert [j for j in w.names("Job") if w.status["revision"] in j]
    assert not any(c["type"] == "Suspended" for c in w.status["conditions"])


@pytest.mark.parametrize("asked", [32, 1])
def test_a_batch_variant_model_is_served_one_by_one_and_says_so(asked: int) -> None:
    w = World(SPEC | {"serving": {"batching": {"maxBatchSize": asked}}})
    w.settle()
    found = result()
    w.end_job(msgspec.structs.replace(found, artifact=msgspec.structs.replace(found.artifact, max_batch_size=1)))
    w.start_pods()
    env = w.get("Deployment", w.names("Deployment")[0])["spec"]["template"]["spec"]["initContainers"][0]["env"][0][
        "value"
    ]
    assert '"maxBatchSize":1' in env
    assert w.condition("BatchLimited", "True", "BatchVariant") == (asked > 1), "who asks for one loses nothing"
    assert w.condition("Ready")


def test_the_job_that_did_the_work_stays_for_its_logs() -> None:
    w = World()
    w.settle()
    w.end_job(result(), kind="SuccessCriteriaMet")
    job = w.get("Job", w.names("Job")[0])
    w.put({**job, "status": {"conditions": [{"type": "SuccessCriteriaMet", "status": "True"}]}})
    w.start_pods()
    assert w.condition("Ready")
    assert len(w.names("Job")) == 1
