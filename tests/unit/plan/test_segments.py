"""Steps that want other pods are Jobs of their own: cut, walked in turn, told as one story, and never done twice."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.plan.world import PLATFORM, SPEC, World, result

from optimodel.api import contract, names
from optimodel.api.contract import JobInput, Pins, Result, StepProgress
from optimodel.api.search import Auto
from optimodel.api.spec import Optimization, StepPodTemplate
from optimodel.api.steps import Distill, Export, FineTune, Quantize, Step
from optimodel.plan.segments import Segment, segments, story

GPU = {"resources": {"limits": {"nvidia.com/gpu": "1"}}, "spec": {"nodeSelector": {"pool": "gpu"}}}
STEPS = ("adapt", "small", "graph", "int8")
TRAINED: dict[str, Any] = SPEC | {
    "task": "TextClassification",
    "data": [{"name": "d", "s3": {"url": "s3://d/rows.jsonl"}}],
    "optimization": {
        "steps": [
            {"name": "adapt", "type": "FineTune", "fineTune": {"data": "d"}},
            {"name": "small", "type": "Distill", "distill": {"data": "d"}},
            {"name": "graph", "type": "Export"},
            {"name": "int8", "type": "Quantize"},
        ],
    },
}
TYPED = (
    Step("adapt", "FineTune", fine_tune=FineTune("d")),
    Step("small", "Distill", distill=Distill("d")),
    Step("graph", "Export", export=Export()),
    Step("int8", "Quantize", quantize=Quantize()),
)


def spec(*templates: dict[str, Any], **changes: Any) -> dict[str, Any]:
    found = copy.deepcopy(TRAINED)
    found["optimization"] |= {"podTemplates": list(templates)} | changes
    return found


def cut(*templates: StepPodTemplate, **changes: Any) -> list[tuple[str | None, int]]:
    found = segments(Optimization(steps=TYPED, pod_templates=templates, **changes))
    return [(part.until, part.processes) for part in found]


def test_a_job_ends_where_the_wanted_pods_change() -> None:
    gpu, big = {"nodeSelector": {"pool": "gpu"}}, {"limits": {"memory": "9Gi"}}
    assert segments(Optimization(steps=TYPED)) == (Segment(None, None, 1),)
    one = {"spec": {"nodeSelector": {"a": "b"}}}
    assert segments(Optimization(steps=TYPED, pod_template=one, processes=2)) == (Segment(None, one, 2),)
    train = StepPodTemplate(("adapt", "small"), spec=gpu)
    assert cut(train) == [("small", 1), (None, 1)]
    assert cut(train, processes=3) == [("small", 3), (None, 1)], "only what trains gets several processes"
    assert cut(train, auto=Auto("d", prune=("FFN",), train="d"), processes=3) == [("small", 3), (None, 3)], (
        "the search trains"
    )
    assert cut(StepPodTemplate(("graph",), resources=big)) == [("small", 1), ("graph", 1), (None, 1)]
    assert cut(StepPodTemplate(("int8",), resources=big)) == [("graph", 1), (None, 1)], "it is judged where it was made"
    assert cut(StepPodTemplate(("Evaluate",), resources=big)) == [("int8", 1), (None, 1)]
    assert cut(StepPodTemplate(("adapt",)), StepPodTemplate(("small",))) == [(None, 1)], "nothing is wanted of either"
    alike = StepPodTemplate(("adapt",), spec=gpu), StepPodTemplate(("graph",), spec=gpu), StepPodTemplate(resources=big)
    found = segments(Optimization(steps=TYPED, pod_templates=alike))
    assert [part.pod_template for part in found] == [{"spec": gpu}, {"resources": big}] * 2


def test_what_was_done_stays_told_as_it_was() -> None:
    fetch, slow = StepProgress("Fetch", "Done", 100, "4.0"), StepProgress("adapt", "Done", 100, "900.0", "sha256:aa", 9)
    before = (fetch, slow, StepProgress("graph", "Pending"), StepProgress("int8", "Failed"))
    now = (
        StepProgress("Fetch", "Cached", 100),
        StepProgress("adapt", "Pending"),
        StepProgress("graph", "Running", 25),
        StepProgress("int8", "Pending"),
    )
    assert story(before, now) == (fetch, slow, *now[2:])
    redone = StepProgress("adapt", "Running")
    assert story(before, (redone,)) == (redone,), "its result went from the store"


def work(w: World) -> tuple[dict[str, Any], JobInput]:
    """The Job that is under way, and what it was told."""
    (job,) = [j for n in w.names("Job") if "status" not in (j := w.get("Job", n))]
    env = {e["name"]: e.get("value", "") for e in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    return job, msgspec.json.decode(env[contract.JOB_ENV], type=JobInput)


def done(told: JobInput, before: str = "") -> Result:
    """What a Job leaves that found the steps up to `before` in the store."""
    order = ["Fetch", *(step.name for step in told.steps), "Evaluate", "Publish"]
    found, made = order.index(before or "Fetch"), order.index(told.until or "Publish")
    states = ("Cached" if i <= found and before else "Done" if i <= made else "Pending" for i in range(len(order)))
    steps = tuple(StepProgress(n, s, 100, "1.0" if s == "Done" else "0") for n, s in zip(order, states, strict=True))  # type: ignore[arg-type]
    if told.until is None:
        return result(steps=steps)
    return Result(
        "Succeeded",
        "StepsDone",
        f"step {told.until} is done",
        steps=steps,
        pins=Pins("sha256:s", "sha256:d", told.until),
    )


def states(w: World) -> list[str]:
    return [s["state"] for s in w.status["steps"]]


def test_what_the_first_job_resolved_another_model_to_the_second_works_with() -> None:
    """An unknown one is told before there is a Job; the revision keeps where it came from, and its Jobs which bytes it had."""
    small = {"name": "small", "s3": {"url": "s3://models/small"}}
    wanted = spec({"steps": ["adapt", "small"], **GPU}) | {
        "models": [small, {"name": "spare", "pvc": {"claimName": "c"}}]
    }
    wanted["optimization"]["steps"][1]["distill"] |= {"student": "other", "hidden": "0"}
    w = World(wanted)
    w.settle()
    assert w.condition("Ready", "False", "StepModelUnknown") and "has: small, spare" in w.message()
    assert not w.names("Job")
    wanted["optimization"]["steps"][1]["distill"]["student"] = "small"
    w.edit(optimization=wanted["optimization"])
    w.settle()
    _, told = work(w)
    assert ([m.name for m in told.models], told.pinned_models) == (["small", "spare"], {})
    (revision,) = w.names("ModelRevision")
    assert w.get("ModelRevision", revision)["spec"]["models"] == [small]
    pins = Pins("sha256:s", "sha256:d", "small", {"small": "sha256:m"})
    w.end_job(msgspec.structs.replace(done(told), pins=pins))
    _, told = work(w)
    assert told.pinned_models == {"small": "sha256:m"}
    judged = done(told, "small")
    w.end_job(msgspec.structs.replace(judged, artifact=msgspec.structs.replace(judged.artifact, models=pins.models)))
    wanted["optimization"]["target"] = {"shapes": [{"batchSize": 1, "sequenceLength": 64}]}
    w.edit(optimization=wanted["optimization"])
    w.settle()
    assert work(w)[1].pinned_models == {"small": "sha256:m"}, "the same bytes are judged again"


def test_two_jobs_in_turn_with_pods_and_processes_of_their_own() -> None:
    w = World(spec({"steps": ["adapt", "small"], **GPU}, processes=2, queueName="team"))
    w.settle()
    first, told = work(w)
    pod = first["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"] == GPU["resources"] and pod["nodeSelector"] == {"pool": "gpu"}
    assert (told.until, told.processes, first["spec"]["completions"]) == ("small", 2, 2)
    assert w.condition("Ready", "False", "Queued")
    w.put({**first, "spec": first["spec"] | {"suspend": False}})
    w.end_job(done(told))
    second, told = work(w)
    assert w.status["attempt"]["pins"] == {"source": "sha256:s", "data": "sha256:d", "step": "small"}
    assert (told.until, told.pinned_source, told.pinned_data) == (None, "sha256:s", "sha256:d")
    assert second["spec"]["suspend"] is True and second["metadata"]["labels"][names.QUEUE] == "team"
    assert "completions" not in second["spec"] and "nodeSelector" not in second["spec"]["template"]["spec"]
    assert states(w) == ["Done"] * 3 + ["Pending"] * 4
    assert w.condition("Optimized", "False", "Queued") and "StepsDone" in w.events
    w.put({**second, "spec": second["spec"] | {"suspend": False}})
    w.settle()
    assert "step graph (4 of 7) is pending" in w.message()
    w.end_job(done(told, "small"))
    assert w.condition("Optimized") and states(w) == ["Done"] * 7, "the second Job found what the first one made"
    assert len(w.names("Job")) == 2, "the first one's log is still there"
    w.start_pods()
    assert w.condition("Ready")


def test_a_job_that_fails_is_tried_again_alone() -> None:
    w = World(spec({"steps": ["adapt", "small"], **GPU}))
    w.settle()
    _, told = work(w)
    w.end_job(done(told))
    second, _ = work(w)
    w.end_job(Result("Failed", "StoreUnreachable", "No answer."), code=11)
    assert w.condition("Ready", "False", "StoreUnreachable") and states(w)[:3] == ["Done"] * 3
    w.pass_time(61)
    third, told = work(w)
    stem = second["metadata"]["name"].removesuffix("1")
    assert third["metadata"]["name"] == f"{stem}2" and told.pinned_source == "sha256:s"
    w.end_job(done(told, "small"))
    assert w.condition("Optimized") and states(w) == ["Done"] * 7


def test_an_edit_of_a_steps_pods_replaces_the_job_that_runs_and_no_other() -> None:
    w = World(spec({"steps": ["adapt", "small"], **GPU}))
    w.settle()
    hash = w.status["revision"]
    first, _ = work(w)
    w.edit(optimization=spec({"steps": ["adapt", "small"], "resources": {"limits": {"memory": "9Gi"}}})["optimization"])
    w.settle()
    other, told = work(w)
    assert other["metadata"]["name"] != first["metadata"]["name"] and len(w.names("Job")) == 1
    assert w.status["revision"] == hash, "the answers are the same"
    w.end_job(done(told))
    second, _ = work(w)
    w.edit(optimization=spec({"steps": ["adapt", "small"], **GPU})["optimization"])
    w.settle()
    assert work(w)[0]["metadata"]["uid"] == second["metadata"]["uid"], "other pods for what is done"
    rest = {"resources": {"limits": {"memory": "3Gi"}}}
    w.edit(
        optimization=spec({"steps": ["adapt", "small"], "resources": {"limits": {"memory": "9Gi"}}}, rest)[
            "optimization"
        ]
    )
    w.settle()
    third, told = work(w)
    assert third["metadata"]["name"] != second["metadata"]["name"] and told.until is None
    assert third["spec"]["template"]["spec"]["containers"][0]["resources"] == rest["resources"]
    assert w.status["revision"] == hash


def test_another_judging_takes_the_last_job_alone_and_lost_bytes_take_all() -> None:
    templates = [{"steps": ["adapt", "small"], **GPU}]
    w = World(spec(*templates))
    for before in ("", "small"):
        w.settle()
        w.end_job(done(work(w)[1], before))
    w.edit(serving={"batching": {"maxBatchSize": 4}})
    w.settle()
    assert work(w)[1].until == "small" and work(w)[1].pinned_source is None, "another revision begins anew"
    target = {"shapes": [{"batchSize": 1, "sequenceLength": 64}]}
    w.edit(serving={}, optimization=spec(*templates, target=target)["optimization"])
    w.settle()
    assert work(w)[1].until is None and work(w)[1].pinned_source == "sha256:src"
    w.end_job(done(work(w)[1], "int8"))
    missing = {"reason": "ArtifactMissing", "outcome": "Failed", "message": "gone", "component": "pull"}
    labels = w.get("Deployment", w.names("Deployment")[0])["spec"]["template"]["metadata"]["labels"]
    ended = {"exitCode": 11, "message": msgspec.json.encode(missing).decode()}
    pulled = {"initContainerStatuses": [{"name": "pull", "state": {"terminated": ended}}]}
    w.pod("broken", labels, "triton", {"waiting": {"reason": "PodInitializing"}}, phase="Pending", **pulled)
    w.settle()
    w.act(f"retry {w.status['revision']}")
    w.settle()
    assert work(w)[1].until == "small", "the steps may be gone too"
    w.end_job(done(work(w)[1]))
    assert work(w)[1].until is None


def image(job: dict[str, Any]) -> str:
    (worker,) = job["spec"]["template"]["spec"]["containers"]
    return str(worker["image"])


def offer(w: World, **images: str) -> None:
    """The operator starts anew, with these beside the default image."""
    w.platform = dataclasses.replace(PLATFORM, worker_images=images)
    w.settle()


def test_a_job_runs_the_image_that_its_pods_name() -> None:
    w = World(spec({"steps": ["adapt", "small"], "workerImage": "gpu"}))
    offer(w, gpu="worker-gpu:1", other="worker-other:1")
    first, told = work(w)
    assert image(first) == "worker-gpu:1" and told.until == "small"
    offer(w, gpu="worker-gpu:2")
    assert work(w)[0] == first, "it goes on with the image that it began with"
    w.end_job(done(told))
    second, told = work(w)
    assert image(second) == PLATFORM.worker_image and told.until is None
    w.end_job(done(told, "small"))
    w.start_pods()
    assert w.condition("Ready")

    one = World(spec() | {"optimization": TRAINED["optimization"] | {"podTemplate": {"workerImage": "gpu"}}})
    offer(one, gpu="worker-gpu:1")
    job, told = work(one)
    assert image(job) == "worker-gpu:1" and told.until is None
    assert one.status["revision"] == w.status["revision"], "what runs a step is no part of what it is"


@pytest.mark.parametrize("step", ["adapt", "int8"])
def test_an_unknown_image_is_told_before_the_first_job_and_heals_when_it_is_there(step: str) -> None:
    w = World(spec({"steps": [step], "workerImage": "gpu"}))
    w.settle()
    assert w.condition("Ready", "False", "WorkerImageUnknown") and w.names("Job") == []
    assert not w.condition("Stalled") and "offers none by name" in w.message()
    offer(w, big="worker-big:1", cuda="worker-cuda:1")
    assert "'gpu', and the platform offers big, cuda" in w.message() and "images.workers.gpu" in w.message()
    writes = len(w.written)
    w.settle()
    assert len(w.written) == writes and w.names("Job") == []
    offer(w, gpu="worker-gpu:1")
    assert image(work(w)[0]) == ("worker-gpu:1" if step == "adapt" else PLATFORM.worker_image)
    assert w.condition("Ready", "False", "Optimizing")


def test_an_image_that_goes_leaves_what_runs_and_what_serves_alone() -> None:
    w = World(spec({"steps": ["adapt"], "workerImage": "gpu"}))
    offer(w, gpu="worker-gpu:1")
    first, told = work(w)
    offer(w)
    assert work(w)[0] == first and w.condition("Ready", "False", "Optimizing")
    w.edit(optimization=spec({"steps": ["adapt"], "workerImage": "gqu"})["optimization"])
    w.settle()
    assert w.condition("Ready", "False", "WorkerImageUnknown") and work(w)[0] == first, "a slip stops no work"
    w.edit(optimization=spec({"steps": ["adapt"], "workerImage": "gpu"})["optimization"])
    w.settle()
    assert work(w)[0] == first and w.condition("Ready", "False", "Optimizing")
    w.end_job(done(told))
    w.end_job(done(work(w)[1], "adapt"))
    w.start_pods()
    assert w.condition("Ready")
    offer(w)
    assert w.condition("Ready") and w.status["phase"] == "Ready"


@pytest.mark.parametrize("name", ["export", "Search"])
def test_a_step_that_is_not_there_is_refused_by_name(name: str) -> None:
    w = World(spec({"steps": ["adapt", name], **GPU}))
    w.settle()
    assert w.condition("Stalled", "True", "StepUnknown") and name in w.message() and w.names("Job") == []


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([None, "a", "b"]), min_size=5, max_size=5),
    st.lists(st.booleans(), min_size=12, max_size=12),
    st.lists(st.sampled_from([0, 0, 11]), min_size=12, max_size=12),
)
def test_whatever_is_cut_and_killed_each_job_is_made_once(
    pools: list[str | None], kills: list[bool], ends: list[int]
) -> None:
    """Operators die before they note what they did, Jobs fail and come again: every step is in one Job that ended well, in order."""
    named = {p: [n for n, of in zip((*STEPS, "Evaluate"), pools, strict=True) if of == p] for p in "ab"}
    templates = [{"steps": n, "spec": {"nodeSelector": {"pool": p}}} for p, n in named.items() if n]
    w = World(spec(*templates) if templates else copy.deepcopy(TRAINED))
    walked: list[str] = []
    made: list[str] = []
    for dies, code in zip(kills, ends, strict=True):
        if dies:
            w.step(dies=True)
        w.settle()
        if w.condition("Optimized"):
            break
        job, told = work(w)
        made.append(job["metadata"]["name"])
        if code:
            w.end_job(Result("Failed", "StoreUnreachable", "No answer."), code=code)
            w.pass_time(1801)
            continue
        order = [*STEPS, "Evaluate"]
        mine = order[len(walked) : order.index(told.until or "Evaluate") + 1]
        pods = {pools[order.index(name)] for name in mine if name != "Evaluate" or pools[-1]}
        assert len(pods) == 1, "steps of one Job want the same pods"
        selector = job["spec"]["template"]["spec"].get("nodeSelector", {})
        assert selector.get("pool") == pods.pop()
        w.end_job(done(told, walked[-1] if walked else ""))
        walked += mine
    assert len(set(made)) == len(made), "no Job is made again under a name that was"
    if w.condition("Optimized"):
        assert walked == [*STEPS, "Evaluate"] and states(w) == ["Done"] * 7
    else:
        assert ends.count(11) >= 6
