"""Objects that the API server refuses: what only another spec mends stops at once, what the world may mend is tried again."""

from __future__ import annotations

from typing import Any

import pytest

from optimodel.plan.types import Manifest
from optimodel.snapshot import MODEL, REFUSED

from .world import SPEC, World, result

BAD = {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}
GOOD = {"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}}
WORDS = (
    'is invalid: spec.template.spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to '
    "cpu limit of 1"
)


def requests_over_limits(manifest: Manifest) -> tuple[str, bool] | None:
    """As the API server answers a Job or Deployment with `BAD` resources."""
    containers = manifest.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    if any(container.get("resources") == BAD["resources"] for container in containers):
        return f'{manifest["kind"]} "{manifest["metadata"]["name"]}" {WORDS}', True
    return None


def optimization(template: dict[str, Any]) -> dict[str, Any]:
    return {"optimization": SPEC["optimization"] | {"podTemplate": template}}


def forget(w: World) -> None:
    """The operator starts anew: what it was told is gone."""
    w.store.set_fact(REFUSED, w.get(MODEL)["metadata"]["uid"], None)


def bad_job() -> World:
    w = World(SPEC | optimization(BAD))
    w.refuses = requests_over_limits
    w.settle()
    return w


def test_a_job_that_is_never_taken_waits_for_another_spec_and_is_not_sent_again() -> None:
    w = bad_job()
    assert w.condition("Stalled", "True", "SpecInvalid") and w.status["phase"] == "Failed"
    assert "must be less than or equal to cpu limit of 1" in w.message() and "podTemplate" in w.message()
    assert not w.condition("Degraded") and w.events.count("SpecInvalid") == 1
    before, written = w.refused, w.version
    w.pass_time(86_400)
    forget(w)
    w.pass_time(86_400)
    assert (w.refused, w.version) == (before, written)
    assert w.condition("Stalled", "True", "SpecInvalid") and w.status["lastFailure"]["reason"] == "SpecInvalid"
    w.edit(**optimization(GOOD))
    w.settle()
    assert not w.condition("Stalled") and len(w.names("Job")) == 1
    w.serve()
    assert w.condition("Ready") and "lastFailure" not in w.status


def test_a_job_that_was_refused_is_sent_once_more_when_asked() -> None:
    w = bad_job()
    before = w.refused
    w.act(f"retry {w.status['revision']}")
    w.settle()
    assert w.refused == before + 1 and w.condition("Stalled", "True", "SpecInvalid")
    w.refuses = lambda manifest: None
    w.act(f"retry {w.status['revision']} again")
    w.settle()
    assert not w.condition("Stalled") and len(w.names("Job")) == 1


def test_pods_to_serve_with_that_are_never_taken_are_stalled_until_the_spec_changes() -> None:
    w = World(SPEC | {"serving": BAD})
    w.refuses = requests_over_limits
    w.settle()
    w.end_job(result())
    assert w.condition("Stalled", "True", "SpecInvalid") and w.condition("Ready", "False", "SpecInvalid")
    assert "cpu limit of 1" in w.message("Stalled") and "spec.serving" in w.message("Stalled")
    assert w.status["lastFailure"]["reason"] == "SpecInvalid" and w.condition("ServingReady", "False", "SpecInvalid")
    assert w.names("Deployment") == [] and w.events.count("SpecInvalid") == 1
    written = w.version
    w.pass_time(300)
    assert w.version == written
    w.edit(serving=GOOD)
    w.settle()
    assert not w.condition("Stalled")
    w.start_pods()
    assert w.condition("Ready") and "lastFailure" not in w.status


def test_new_settings_that_are_never_taken_leave_the_served_pods_alone() -> None:
    w = World()
    w.serve()
    w.refuses = requests_over_limits
    w.edit(serving=BAD)
    w.settle()
    assert w.condition("Stalled", "True", "SpecInvalid") and w.condition("Ready", "False", "SpecInvalid")
    assert w.condition("Available") and w.status["replicas"] == 1
    told = len(w.written)
    w.edit(serving={})
    w.settle()
    assert w.condition("Ready")
    types = [c["type"] for status in w.written[told:] for c in status["conditions"]]
    assert types and "Stalled" not in types, "what an earlier generation asked for is not told of this one"


@pytest.mark.parametrize(
    ("kind", "content"),
    [("Job", False), ("Service", False), ("ModelRevision", True)],
    ids=["quota", "another's name", "not of the spec"],
)
def test_what_the_world_may_mend_is_tried_again(kind: str, content: bool) -> None:
    w = World()
    if kind == "Service":
        w.serve()
        w.edit(serving={"replicas": 2})
    words = "is forbidden: exceeded quota: pods"
    w.refuses = lambda manifest: (words, content) if manifest["kind"] == kind else None
    w.settle()
    before = w.refused
    assert w.condition("Ready", "False", "WriteRefused") and words in w.message() and not w.condition("Stalled")
    assert w.condition("Degraded", "True", "WriteRefused")
    w.step()
    assert w.refused > before
    w.refuses = lambda manifest: None
    w.serve()
    assert not w.condition("Degraded") and w.condition("Available")


def test_pods_that_are_not_let_in_are_told_in_the_servers_words() -> None:
    w = World()
    w.settle()
    w.end_job(result())
    (name,) = w.names("Deployment")
    said = 'pods "m-1" is forbidden: exceeded quota: team, requested: requests.memory=6Gi, limited: requests.memory=4Gi'
    told = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": said}
    w.put({**w.get("Deployment", name), "status": {"conditions": [told]}})
    w.settle()
    assert w.condition("ServingReady", "False", "PodNotCreated") and said.partition("forbidden: ")[2] in w.message(
        "ServingReady"
    )
    assert w.condition("Ready", "False", "PodNotCreated") and not w.condition("Stalled")
    w.put({**w.get("Deployment", name), "status": {"conditions": [told | {"status": "False"}]}})
    w.start_pods()
    assert w.condition("Ready")
