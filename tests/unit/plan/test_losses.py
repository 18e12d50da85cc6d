"""Bytes that somebody takes from the store: made again without being asked, not for ever, and never in a storm."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimodel.snapshot import MODEL

from .world import ROUTER, SPEC, World, result

LIMIT = 6
GAPS = (60, 120, 240, 480, 960, 1800)
"""Seconds between the making and the next, as the docs promise."""


class Store(World):
    """A world whose pods find the artifact in a store, or do not."""

    def __init__(self, spec: dict[str, Any] | None = None) -> None:
        super().__init__(spec)
        self.there = False
        self.jobs: dict[str, datetime] = {}

    def step(self, dies: bool = False, noted: bool = False) -> Any:
        found = super().step(dies, noted)
        for name in self.names("Job"):
            self.jobs.setdefault(name, self.now)
        return found

    def work(self) -> None:
        """The Job under way, if there is one, ends well."""
        if any("status" not in self.get("Job", name) for name in self.names("Job")):
            self.there = True
            self.end_job(result())

    def kubelet(self) -> None:
        """Every Deployment's pod starts, or fails to pull."""
        if self.there:
            for name in self.names("Pod"):
                if name.endswith("-0"):
                    self.store.remove("Pod", self.get("Pod", name))
            self.start_pods()
            return
        for name in self.names("Deployment"):
            self.crash(name)
        self.settle()

    def crash(self, deployment: str) -> None:
        """The init container of a pod does not find the artifact, now."""
        labels = self.get("Deployment", deployment)["spec"]["template"]["metadata"]["labels"]
        said = json.dumps({"reason": "ArtifactMissing", "message": "Artifact sha256:aa is not in s3://models."})
        ended = {"exitCode": 11, "message": said, "finishedAt": f"{self.now:%Y-%m-%dT%H:%M:%SZ}"}
        status = {
            "name": "pull",
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": ended},
        }
        self.pod(f"{deployment}-0", labels, "pull", {}, phase="Pending")
        pod = self.get("Pod", f"{deployment}-0")
        pod["status"] = {"phase": "Pending", "initContainerStatuses": [status]}
        self.put(pod)

    def lose(self) -> None:
        """Somebody deletes the bytes, and the pods start anew."""
        self.there = False
        self.kubelet()

    @property
    def attempts(self) -> list[str]:
        return [name for name in self.jobs if "-a" in name]


def served() -> Store:
    """A model that serves, an hour after it was made."""
    w = Store()
    w.settle()
    w.work()
    w.kubelet()
    assert w.condition("Ready")
    w.pass_time(3600)
    return w


def test_lost_bytes_are_made_again_without_being_asked() -> None:
    w = served()
    w.lose()
    assert len(w.attempts) == 2 and w.events.count("ArtifactMissing") == 1
    assert w.condition("Optimized", "False", "ArtifactMissing") and "made again" in w.message("Optimized")
    assert not w.condition("Stalled")
    w.pass_time(600)
    assert len(w.attempts) == 2, "one at a time"
    w.work()
    w.pass_time(300)
    assert len(w.attempts) == 2, "what the pods say of before it was made again is no news"
    w.kubelet()
    w.pass_time(86_400)
    assert w.condition("Ready") and w.condition("Optimized") and len(w.attempts) == 2


def test_a_first_revision_whose_bytes_went_gets_a_new_deadline_with_its_new_bytes() -> None:
    w = Store(SPEC | {"rollout": {"progressDeadline": "5m"}})
    w.settle()
    w.work()
    w.pass_time(30)
    w.lose()
    assert w.condition("Ready", "False", "ArtifactMissing") and "It is made again at 2026-01-01T00:01:00" in w.message()
    w.pass_time(30)
    assert w.names("Deployment") == [] and len(w.attempts) == 2
    assert w.condition("Ready", "False", "ArtifactMissing") and "made again" in w.message()
    w.pass_time(3600)
    w.work()
    assert not w.condition("Stalled") and len(w.names("Deployment")) == 1
    w.kubelet()
    assert w.condition("Ready") and "lastFailure" not in w.status


def test_a_canary_whose_bytes_went_is_not_rolled_back_for_it() -> None:
    w = served()
    w.edit(source={"s3": {"url": "s3://models/next"}})
    w.settle()
    w.work()
    stable = w.status["stableRevision"]
    w.there = False
    w.pass_time(61)
    w.crash(next(name for name in w.names("Deployment") if stable not in name))
    w.settle()
    assert w.events.count("ArtifactMissing") == 1
    w.pass_time(7200)
    assert w.status["stableRevision"] == stable and not w.condition("RolledBack") and not w.condition("Stalled")
    assert w.condition("Available")
    w.work()
    w.kubelet()
    w.pass_time(60)
    assert w.condition("Ready") and w.status["stableRevision"] != stable


def test_who_keeps_deleting_is_told_after_six_times_and_asking_begins_anew() -> None:
    w = served()
    for gap in (0, *GAPS[1:]):
        w.pass_time(1)
        before, waited = len(w.attempts), 0
        w.lose()
        while len(w.attempts) == before and waited < 2000:
            w.pass_time(20)
            waited += 20
        assert waited == gap, w.message("Optimized")
        w.work()
    w.pass_time(1)
    w.lose()
    for _ in range(5):
        w.pass_time(43_200)
        w.lose()
    assert len(w.attempts) == 1 + LIMIT and w.condition("Stalled", "True", "ArtifactMissing")
    assert "find out who deletes" in w.message("Stalled") and f"retry {w.status['revision']}" in w.message("Stalled")
    written = w.version
    w.pass_time(3600)
    assert w.version == written
    w.act(f"retry {w.status['revision']}")
    w.settle()
    assert len(w.attempts) == 2 + LIMIT and not w.condition("Stalled")
    w.work()
    w.pass_time(1)
    w.lose()
    w.pass_time(61)
    assert len(w.attempts) == 3 + LIMIT, "the row begins anew"


def test_a_loss_a_week_is_made_good_each_time() -> None:
    w = served()
    for week in range(2, 12):
        w.pass_time(604_800)
        w.lose()
        assert len(w.attempts) == week
        w.work()
        w.kubelet()
        assert w.condition("Ready")


def test_nothing_is_made_again_while_the_object_is_suspended() -> None:
    w = served()
    w.edit(suspend=True)
    w.settle()
    w.lose()
    w.pass_time(3600)
    assert len(w.attempts) == 1
    w.edit(suspend=False)
    w.settle()
    assert len(w.attempts) == 2


DOINGS = st.lists(
    st.one_of(st.sampled_from(["work", "lose", "kubelet", "die", "die noted"]), st.integers(1, 1200)),
    min_size=5,
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(doings=DOINGS)
def test_however_it_goes_there_is_no_storm_and_it_ends_well(doings: list[str | int]) -> None:
    w = Store()
    w.settle()
    for doing in doings:
        if doing in ("die", "die noted"):
            w.step(dies=True, noted=doing == "die noted")
            w.settle()
        elif isinstance(doing, int):
            w.pass_time(doing)
        else:
            getattr(w, str(doing))()
        live = [name for name in w.names("Job") if "status" not in w.get("Job", name)]
        assert len(live) <= 1
    assert len(w.attempts) <= 1 + LIMIT
    starts = sorted(w.jobs[name] for name in w.attempts)
    assert all(later - earlier >= timedelta(seconds=60) for earlier, later in pairwise(starts))
    w.act(f"retry {w.status['revision']}")
    w.settle()
    for _ in range(4):
        w.work()
        w.kubelet()
        w.pass_time(60)
    assert w.condition("Ready"), w.message()
    assert w.get(MODEL)["status"]["phase"] == "Ready"


@pytest.mark.parametrize("moment", range(3))
def test_an_operator_that_dies_while_it_plans_to_make_it_again_does_so_once(moment: int) -> None:
    w = served()
    w.there = False
    w.crash(w.names("Deployment")[0])
    for _ in range(moment):
        w.step(dies=True)
    w.settle()
    live = [name for name in w.names("Job") if "status" not in w.get("Job", name)]
    assert len(live) == 1
    w.work()
    w.kubelet()
    assert w.condition("Ready")


def test_an_operator_that_dies_between_the_two_statuses_makes_it_again_a_little_later() -> None:
    w = served()
    w.there = False
    w.crash(w.names("Deployment")[0])
    w.step(dies=True, noted=True)
    w.settle()
    w.pass_time(1)
    w.lose()
    w.pass_time(120)
    w.work()
    w.kubelet()
    assert w.condition("Ready") and w.there


def canary() -> tuple[Store, str, str]:
    """A model whose second revision takes a part of the traffic; with both hashes, stable's first."""
    w = Store(SPEC | {"rollout": {"router": ROUTER, "steps": [{"name": "half", "weight": 50, "approval": "Required"}]}})
    w.settle()
    w.work()
    w.kubelet()
    w.accept_routes()
    w.pass_time(3600)
    assert w.condition("Ready")
    stable = w.status["stableRevision"]
    w.edit(source={"s3": {"url": "s3://models/next"}})
    w.settle()
    w.work()
    w.kubelet()
    w.accept_routes()
    assert w.status["rollout"]["phase"] == "AwaitingApproval"
    return w, stable, w.status["revision"]


def test_a_kept_revision_whose_bytes_went_is_made_again_when_it_is_asked_for() -> None:
    w, old, new = canary()
    w.act(f"promote {new}")
    w.kubelet()
    w.accept_routes()
    w.pass_time(60)
    assert w.condition("Ready") and w.status["stableRevision"] == new
    w.edit(source=SPEC["source"])
    w.settle()
    w.crash(f"m-{old}")
    w.settle()
    assert w.events.count("ArtifactMissing") == 1 and w.condition("Available")
    assert w.condition("Ready", "False", "ArtifactMissing") and "made again" in w.message()
    w.work()
    w.kubelet()
    w.accept_routes()
    w.act(f"promote {old}")
    w.settle()
    w.accept_routes()
    w.pass_time(60)
    assert w.condition("Ready") and w.status["stableRevision"] == old


@pytest.mark.parametrize("count", [0, 1])
def test_a_stable_revision_whose_bytes_went_while_the_spec_asks_for_another_says_so_and_what_to_do(count: int) -> None:
    """Whether others of its pods still answer or not."""
    w, old, new = canary()
    w.crash(f"m-{old}")
    if count:
        labels = w.get("Deployment", f"m-{old}")["spec"]["template"]["metadata"]["labels"]
        w.pod("other", labels, "triton", {"running": {}}, conditions=[{"type": "Ready", "status": "True"}])
    w.settle()
    assert w.condition("Degraded", "True", "ArtifactMissing")
    said = w.message("Degraded")
    assert f"revision {old}" in said and "not in s3://models" in said and "set the spec back" in said
    assert f"promote {new}" in said
    written = w.version
    w.pass_time(3600)
    assert w.version == written, "said once"
    w.edit(source=SPEC["source"])
    w.settle()
    assert w.events[-2:] == ["ArtifactMissing", "OptimizationStarted"] and old in w.names("Job")[0]
    w.work()
    w.kubelet()
    w.accept_routes()
    w.pass_time(60)
    assert w.condition("Ready") and w.status["stableRevision"] == old and "Degraded" not in str(w.status["conditions"])


def test_what_was_rolled_back_from_says_what_the_stable_revision_lacks() -> None:
    w, old, new = canary()
    w.act(f"abort {new}")
    w.accept_routes()
    w.pass_time(60)
    assert w.condition("RolledBack")
    w.crash(f"m-{old}")
    w.settle()
    assert w.condition("Degraded", "True", "ArtifactMissing")
    assert "set the spec back" in w.message("Degraded") and "promote" not in w.message("Degraded")


def test_a_stable_revision_with_another_trouble_lost_no_bytes() -> None:
    w, old, _ = canary()
    w.kubelet()
    labels = w.get("Deployment", f"m-{old}")["spec"]["template"]["metadata"]["labels"]
    w.pod(f"m-{old}-0", labels, "triton", {"waiting": {"reason": "ImagePullBackOff"}}, phase="Pending")
    w.settle()
    assert "ArtifactMissing" not in str(w.status["conditions"])
