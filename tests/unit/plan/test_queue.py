"""Jobs that a queue holds: Kueue alone says when they go."""

from __future__ import annotations

from typing import Any

from tests.unit.plan.world import SPEC, World, result

from optimodel.api import names


def job(w: World) -> dict[str, Any]:
    """The newest Job."""
    return w.get("Job", [n for n in w.names("Job") if "-a" in n][-1])


def test_a_queue_holds_the_job_until_it_lets_it_go() -> None:
    w = World(SPEC | {"optimization": SPEC["optimization"] | {"queueName": "team-a"}})
    w.settle()
    made = job(w)
    assert made["metadata"]["labels"][names.QUEUE] == "team-a" and made["spec"]["suspend"] is True
    assert w.condition("Ready", "False", "Queued") and w.condition("Optimized", "False", "Queued")
    assert "team-a" in w.message() and "lastFailure" not in w.status and w.status["phase"] == "Optimizing"
    w.put({**made, "spec": made["spec"] | {"suspend": False}})
    version = w.version
    plan = w.step()
    assert not [m for m in plan.apply if m["kind"] == "Job"], "what Kueue set stays as it is"
    assert version < w.version and w.condition("Ready", "False", "Optimizing")
    w.put({**job(w), "spec": made["spec"]})
    w.settle()
    assert w.condition("Ready", "False", "Queued"), "Kueue took the Job's place away again"
    w.put({**job(w), "spec": made["spec"] | {"suspend": False}})
    w.end_job(result())
    w.start_pods()
    assert w.condition("Ready")
    hash = w.status["revision"]
    w.edit(optimization=SPEC["optimization"] | {"queueName": "team-b"})
    w.settle()
    assert w.status["revision"] == hash and w.condition("Ready"), "another queue is no other model"
