"""Jobs of several processes: what is asked of the cluster, and what is told of it."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from tests.unit.plan import world
from tests.unit.plan.world import SPEC, World, result

from optimodel import __version__
from optimodel.api import contract, names
from optimodel.api.contract import JobInput, Result
from optimodel.plan.types import Platform

TRAINED = SPEC | {
    "task": "TextClassification",
    "data": [{"name": "d", "s3": {"url": "s3://d/rows.jsonl"}}],
    "optimization": {
        "processes": 2,
        "steps": [
            {"name": "adapt", "type": "FineTune", "fineTune": {"data": "d"}},
            {"name": "graph", "type": "Export"},
        ],
    },
}


def job(w: World) -> dict[str, Any]:
    return w.get("Job", [n for n in w.names("Job") if "-a" in n][-1])


def process(w: World, index: int, state: dict[str, Any], **status: Any) -> None:
    """A pod of the newest Job."""
    found = job(w)
    name = found["metadata"]["name"]
    labels = found["spec"]["template"]["metadata"]["labels"]
    own = {"job-name": name, "batch.kubernetes.io/job-completion-index": str(index)}
    w.pod(f"{name}-{index}", labels | own, "worker", state, **status)


def ended(code: int, outcome: Result | None = None, reason: str = "Error") -> dict[str, Any]:
    message = {} if outcome is None else {"message": msgspec.json.encode(outcome).decode()}
    return {"terminated": {"exitCode": code, "reason": reason, **message}}


def over(w: World, kind: str) -> None:
    w.put({**job(w), "status": {"conditions": [{"type": kind, "status": "True"}]}})
    w.settle()


def test_processes_are_pods_of_an_indexed_job_that_find_the_first_by_name() -> None:
    w = World(copy.deepcopy(TRAINED))
    w.settle()
    made, service = job(w), w.get("Service", "m-workers")
    spec = made["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    assert spec["backoffLimit"] == 0 and spec["successPolicy"] == {"rules": [{"succeededIndexes": "0"}]}
    pod = spec["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    env = {e["name"]: e.get("value", "") for e in pod["containers"][0]["env"]}
    (limit,) = (e["valueFrom"] for e in pod["containers"][0]["env"] if e["name"] == contract.MILLICPUS_ENV)
    assert limit == {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}
    name = made["metadata"]["name"]
    assert env[contract.RENDEZVOUS_ENV] == f"{name}-0.m-workers:{contract.RENDEZVOUS_PORT}"
    told = msgspec.json.decode(env[contract.JOB_ENV], type=JobInput)
    assert (told.processes, told.release) == (2, __version__)
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"].items() <= spec["template"]["metadata"]["labels"].items()
    hash = w.status["revision"]
    w.edit(optimization=TRAINED["optimization"] | {"processes": 1})
    w.settle()
    assert w.names("Service") == [] and "completionMode" not in job(w)["spec"] and "subdomain" not in str(job(w))
    assert w.status["revision"] == hash, "the same model, made by fewer"


def test_only_pods_of_the_job_reach_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "PLATFORM", Platform("worker:1", "operator:1", network_policy=True))
    w = World(copy.deepcopy(TRAINED))
    w.settle()
    assert w.names("NetworkPolicy") == ["m", "m-workers"]
    spec = w.get("NetworkPolicy", "m-workers")["spec"]
    assert spec["ingress"] == [{"from": [{"podSelector": spec["podSelector"]}]}]
    assert spec["podSelector"] == {"matchLabels": {names.MODEL: "m", names.COMPONENT: "optimize"}}
    w.edit(optimization=TRAINED["optimization"] | {"processes": 1})
    w.settle()
    assert w.names("NetworkPolicy") == ["m"]


def test_the_first_process_tells_progress_and_result() -> None:
    w = World(copy.deepcopy(TRAINED))
    w.settle()
    for index in (1, 0):
        process(w, index, {"running": {}}, phase="Running", podIP=f"10.0.0.{index + 1}")
    assert [t.url for t in w.step().progress] == ["http://10.0.0.1:8080/progress"]
    process(w, 1, ended(0, reason="Completed"), phase="Succeeded")
    process(w, 0, ended(0, result(), reason="Completed"), phase="Succeeded")
    over(w, "SuccessCriteriaMet")
    assert w.condition("Optimized", "True", "Optimized")


PEER_LOST = Result("Failed", "PeerLost", "Another process is gone.")


@pytest.mark.parametrize(
    ("first", "other", "reason", "stalled"),
    [
        (ended(11, PEER_LOST), ended(137, reason="OOMKilled"), "OutOfMemory", True),
        (ended(11, PEER_LOST), ended(137), "WorkerFailed", False),
        (ended(11, PEER_LOST), ended(10, Result("Failed", "LabelMissing", "Name its field.")), "LabelMissing", True),
        (ended(137), ended(10, Result("Failed", "LabelMissing", "Name its field.")), "LabelMissing", True),
        (ended(10, Result("Failed", "OneClass", "Add others.")), ended(11, PEER_LOST), "OneClass", True),
        (ended(11, PEER_LOST), None, "PeerLost", False),
    ],
)
def test_the_cause_is_told_and_not_what_followed(
    first: dict[str, Any], other: dict[str, Any] | None, reason: str, stalled: bool
) -> None:
    w = World(copy.deepcopy(TRAINED))
    w.settle()
    process(w, 0, first, phase="Failed")
    if other:
        process(w, 1, other, phase="Failed")
    over(w, "Failed")
    assert w.status["lastFailure"]["reason"] == reason
    assert w.condition("Stalled") == stalled


def test_processes_without_a_training_are_refused() -> None:
    w = World(SPEC | {"optimization": SPEC["optimization"] | {"processes": 2}})
    w.settle()
    assert w.condition("Stalled", "True", "SettingUnused") and w.names("Job") == []


@pytest.mark.parametrize(
    ("settings", "sharded"),
    [
        ({"type": "FineTune", "fineTune": {"data": "d", "method": "LoRA"}}, True),
        ({"type": "Distill", "distill": {"data": "d"}}, True),
        ({"type": "FineTune", "fineTune": {"data": "d", "adversarial": {}}}, False),
        ({"type": "Prune", "prune": {"method": "FFN", "keep": "0.5", "recover": {"data": "d"}}}, False),
    ],
)
def test_what_cannot_train_in_parts_is_refused_before_a_pod(settings: dict[str, Any], sharded: bool) -> None:
    steps = [{"name": "first", **settings}, {"name": "graph", "type": "Export"}]
    w = World(TRAINED | {"optimization": {"processes": 2, "parallelism": "FSDP", "steps": steps}})
    w.settle()
    if not sharded:
        assert w.condition("Stalled", "True", "StepNotSharded") and w.names("Job") == []
        w.edit(optimization={"processes": 2, "steps": steps})
        w.settle()
    env = {e["name"]: e.get("value", "") for e in job(w)["spec"]["template"]["spec"]["containers"][0]["env"]}
    told = msgspec.json.decode(env[contract.JOB_ENV], type=JobInput)
    assert told.parallelism == ("FSDP" if sharded else "DDP")
    assert ("MALLOC_MMAP_THRESHOLD_" in env) == sharded
