"""The end of an object: artifacts by policy, and no finalizer that holds anything up."""

from __future__ import annotations

import copy

import msgspec

from optimodel.api.contract import Result
from optimodel.api.names import FINALIZER
from optimodel.plan.decide import decide
from optimodel.plan.types import Plan, Platform
from optimodel.snapshot import MODEL, TERMINATING, take

from .world import SPEC, World


def leaving(policy: str) -> World:
    """A served object that was just deleted."""
    spec = copy.deepcopy(SPEC)
    spec["artifacts"]["deletionPolicy"] = policy
    w = World(spec)
    w.serve()
    model = w.get(MODEL)
    model["metadata"]["deletionTimestamp"] = w.now.isoformat()
    w.put(model)
    return w


def finalizers(w: World) -> list[str]:
    return w.get(MODEL)["metadata"].get("finalizers", [])


def cleanups(w: World) -> list[str]:
    return [n for n in w.names("Job") if "cleanup" in n]


def test_retain_has_no_finalizer_and_nothing_to_do() -> None:
    w = leaving("Retain")
    assert finalizers(w) == []
    assert w.step() == Plan()


def test_delete_removes_the_artifacts_by_a_job_with_the_tenants_secret() -> None:
    w = leaving("Delete")
    assert finalizers(w) == [FINALIZER]
    w.step()
    job = w.get("Job", next(n for n in w.names("Job") if "cleanup" in n))
    assert w.status["phase"] == "Deleting" and w.status["stableRevision"]
    assert "sha256:aa" in str(job) and "secretKeyRef" in str(job) and "ownerReferences" not in job["metadata"]
    w.put({**job, "status": {"conditions": [{"type": "Complete", "status": "True"}]}})
    w.step()
    assert finalizers(w) == [] and "ArtifactsDeleted" in w.events


def other(w: World, policy: str, url: str = "s3://models/team-a") -> None:
    """Another object that names the same artifact, and is deleted too."""
    meta = {"name": "o", "namespace": "a", "generation": 1, "deletionTimestamp": w.now.isoformat()}
    artifacts = {"s3": {"url": url}, "deletionPolicy": policy}
    w.put({"kind": MODEL, "metadata": meta, "spec": SPEC | {"artifacts": artifacts}})
    [mine] = w.names("ModelRevision")
    revision = w.get("ModelRevision", mine)
    revision["metadata"] = {"name": "o-1", "namespace": "a", "labels": {}}
    w.put({**revision, "spec": revision["spec"] | {"model": "o"}})


def test_an_artifact_of_two_that_go_together_goes_unless_one_retains_it() -> None:
    w = leaving("Delete")
    other(w, "Retain")
    w.step()
    assert finalizers(w) == [] and not cleanups(w)
    assert "ArtifactsRetained" in w.events
    w = leaving("Delete")
    other(w, "Delete")
    w.step()
    assert cleanups(w)


def test_a_model_that_comes_to_name_the_bytes_stops_the_cleaner() -> None:
    w = leaving("Delete")
    w.step()
    assert cleanups(w)
    other(w, "Retain")
    w.step()
    assert not cleanups(w) and finalizers(w) == []
    assert "ArtifactsRetained" in w.events


def test_the_cleaner_begins_anew_with_what_is_still_nobody_elses() -> None:
    w = leaving("Delete")
    [mine] = w.names("ModelRevision")
    second = copy.deepcopy(w.get("ModelRevision", mine))
    second["metadata"] |= {"name": "m-second", "uid": "second"}
    second["spec"]["hash"] = "second"
    second["status"]["artifact"]["digest"] = "sha256:bb"
    w.put(second)
    w.step()
    (name,) = cleanups(w)
    assert "sha256:aa" in str(w.get("Job", name)) and "sha256:bb" in str(w.get("Job", name))
    sharer = copy.deepcopy(w.get("ModelRevision", mine))
    sharer["metadata"] = {"name": "o-1", "namespace": "a", "labels": {}}
    w.put({**sharer, "spec": sharer["spec"] | {"model": "o"}})
    w.step()
    assert not cleanups(w), "the one that would take too much goes first"
    w.step()
    (name,) = cleanups(w)
    assert "sha256:aa" not in str(w.get("Job", name)) and "sha256:bb" in str(w.get("Job", name))


def test_whoever_thinks_better_of_delete_stops_the_cleaner() -> None:
    w = leaving("Delete")
    w.step()
    model = w.get(MODEL)
    model["spec"]["artifacts"]["deletionPolicy"] = "Retain"
    w.put(model)
    w.step()
    assert not cleanups(w) and finalizers(w) == []


def test_what_a_revision_without_a_result_left_is_told() -> None:
    spec = copy.deepcopy(SPEC)
    spec["artifacts"]["deletionPolicy"] = "Delete"
    w = World(spec)
    w.settle()
    model = w.get(MODEL)
    model["metadata"]["deletionTimestamp"] = w.now.isoformat()
    w.put(model)
    w.step()
    assert finalizers(w) == [] and "ArtifactsRetained" in w.events


def test_a_cleaner_that_fails_says_why() -> None:
    w = leaving("Delete")
    w.step()
    (name,) = cleanups(w)
    left = Result("Failed", "StoreAccessDenied", "The store refuses the keys.", "cleanup")
    ended = {"terminated": {"exitCode": 11, "message": msgspec.json.encode(left).decode()}}
    w.pod("c", {"job-name": name, "optimodel.dev/model": "m"}, "clean", ended, phase="Failed")
    w.put({**w.get("Job", name), "status": {"conditions": [{"type": "Failed", "status": "True"}]}})
    told = decide(take(w.store, "a", "m", Platform("worker:1", "operator:1"), w.now)).events
    assert [e.message for e in told] == [
        "the store could not be cleaned (StoreAccessDenied: The store refuses the keys); the bytes stay in the store"
    ]


def test_equal_bytes_in_another_store_are_another_models() -> None:
    w = leaving("Delete")
    other(w, "Retain", "s3://models/team-b")
    w.step()
    assert cleanups(w)
    w = leaving("Delete")
    other(w, "Retain", "s3://models/team-a/")
    w.step()
    assert not cleanups(w), "the same place, written otherwise"


def test_a_terminating_namespace_lets_go_at_once() -> None:
    w = leaving("Delete")
    w.store.set_fact(TERMINATING, "a", True)
    w.step()
    assert finalizers(w) == [] and "ArtifactsRetained" in w.events


def test_a_store_that_is_gone_lets_go_after_the_job_failed() -> None:
    w = leaving("Delete")
    w.step()
    job = w.get("Job", next(n for n in w.names("Job") if "cleanup" in n))
    w.put({**job, "status": {"conditions": [{"type": "Failed", "status": "True"}]}})
    w.step()
    assert finalizers(w) == [] and "ArtifactsRetained" in w.events


def test_ten_minutes_are_enough() -> None:
    w = leaving("Delete")
    w.step()
    from datetime import timedelta

    w.now += timedelta(minutes=10, seconds=1)
    w.step()
    assert finalizers(w) == []
