"""A model for a GPU: what is refused, what its pods ask for, and what is said while no node has one."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from optimodel.snapshot import MODEL

from .world import SPEC, World, result

GPU = {"image": "triton:1", "accelerators": ["CUDA", "TensorRT"]}
STEPS = [{"name": "graph", "type": "Export"}, {"name": "half", "type": "Quantize", "quantize": {"method": "Float16"}}]


def spec(**target: Any) -> dict[str, Any]:
    return SPEC | {"optimization": {"steps": copy.deepcopy(STEPS), "target": {"device": "GPU", **target}}}


def served(world: World) -> tuple[dict[str, Any], dict[str, Any]]:
    """The triton container, and what the init container is told."""
    (name,) = world.names("Deployment")
    pod = world.get("Deployment", name)["spec"]["template"]["spec"]
    env = {e["name"]: e.get("value", "") for e in pod["initContainers"][0]["env"]}
    return pod["containers"][0], env


@pytest.mark.parametrize(
    ("changes", "target", "limits"),
    [
        ({}, {}, {"nvidia.com/gpu": "1", "memory": "2Gi"}),
        ({"acceleratorResource": "nvidia.com/mig-1g.10gb"}, {}, {"nvidia.com/mig-1g.10gb": "1", "memory": "2Gi"}),
        ({"resources": {"limits": {"nvidia.com/gpu": "2"}}}, {"accelerator": "TensorRT"}, {"nvidia.com/gpu": "2"}),
    ],
    ids=["one", "a slice", "as many as are named"],
)
def test_a_pod_asks_for_the_resource_of_its_runtime(
    changes: dict[str, Any], target: dict[str, Any], limits: dict[str, str]
) -> None:
    w = World(spec(**target), runtime=GPU | changes)
    w.serve()
    triton, env = served(w)
    assert triton["resources"]["limits"] == limits
    wanted = target.get("accelerator", "CUDA")
    assert f'"accelerator":"{wanted}"' in env["OPTIMODEL_PULL"] and '"half":true' in env["OPTIMODEL_PULL"]
    (revision,) = w.names("ModelRevision")
    assert w.get("ModelRevision", revision)["spec"]["accelerator"] == wanted
    job = w.get("Job", w.names("Job")[0])["spec"]["template"]["spec"]["containers"][0]
    assert f'"accelerator":"{wanted}"' in next(e["value"] for e in job["env"] if e["name"] == "OPTIMODEL_JOB")
    assert "nvidia.com/gpu" not in job["resources"]["limits"], "no step of ours needs one"


def test_a_model_for_a_cpu_asks_for_none_of_a_runtime_that_has_some() -> None:
    w = World(runtime=GPU)
    w.serve()
    assert served(w)[0]["resources"]["limits"] == {"memory": "2Gi"}


@pytest.mark.parametrize(
    ("runtime", "target", "lacking"),
    [({"image": "triton:1"}, {}, "CUDA"), (GPU | {"accelerators": ["CUDA"]}, {"accelerator": "TensorRT"}, "TensorRT")],
)
def test_a_runtime_without_the_accelerator_is_told_and_may_get_it(
    runtime: dict[str, Any], target: dict[str, Any], lacking: str
) -> None:
    w = World(spec(**target), runtime=runtime)
    w.settle()
    assert w.condition("Ready", "False", "AcceleratorNotSupported") and not w.condition("Stalled")
    message = next(c["message"] for c in w.status["conditions"] if c["type"] == "Ready")
    assert f"asks for {lacking}" in message and "Name a runtime whose accelerators hold" in message
    assert w.names("Job") == []
    w.set_runtime(GPU)
    w.serve()
    assert w.condition("Ready")


def test_a_search_measures_on_a_cpu_alone() -> None:
    gate = {"name": "floor", "metric": "CosineMean", "data": "d/test", "min": "0.9"}
    parts = [{"name": "validation", "percent": 50}, {"name": "test", "percent": 50}]
    data = [{"name": "d", "s3": {"url": "s3://data/d.jsonl"}, "split": {"parts": parts}}]
    asks = {"steps": STEPS[:1], "target": {"device": "GPU"}, "auto": {"validation": "d/validation"}, "gates": [gate]}
    w = World(SPEC | {"data": data, "optimization": asks}, runtime=GPU)
    w.settle()
    assert w.condition("Stalled", "True", "AutoNotForDevice") and w.names("Job") == []


def test_a_change_of_the_device_is_another_revision() -> None:
    w = World(spec(), runtime=GPU)
    w.serve()
    changed = w.get(MODEL)["spec"]["optimization"]
    changed["target"] = {"device": "CPU"}
    w.edit(optimization=changed)
    w.settle()
    assert len(w.names("ModelRevision")) == 2


def test_a_cluster_without_a_free_gpu_is_told_of_with_the_way_out() -> None:
    w = World(spec(), runtime=GPU)
    w.settle()
    w.end_job(result())
    w.settle()
    (name,) = w.names("Deployment")
    w.put(pending(w.get("Deployment", name)))
    w.settle()
    ready = next(c for c in w.status["conditions"] if c["type"] == "Ready")
    assert ready["status"] == "False"
    assert "no node has nvidia.com/gpu free. Add such a node" in str(w.status)


def pending(deployment: dict[str, Any]) -> dict[str, Any]:
    """A pod of it that the scheduler could not place, in the scheduler's own words."""
    said = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}
    template = deployment["spec"]["template"]
    meta = {"name": "m-pod", "namespace": "a", "labels": template["metadata"]["labels"]}
    return {
        "kind": "Pod",
        "metadata": meta,
        "spec": template["spec"],
        "status": {"phase": "Pending", "conditions": [condition]},
    }
