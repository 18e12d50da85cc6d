"""Specs that cannot be worked on: what is said, what goes on meanwhile, and that a correction is enough."""

from __future__ import annotations

import pytest

from .world import SPEC, World


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"optimization": {"steps": [{"name": "q", "type": "Quantize"}]}}, "ExportMissing"),
        (
            {"optimization": {"steps": [{"name": "q", "type": "Quantize"}, {"name": "e", "type": "Export"}]}},
            "WrongOrder",
        ),
        ({"rollout": {"drain": "soon"}}, "InvalidDuration"),
        (
            {"task": "ImageClassification", "serving": {"batching": {"lengthBuckets": [16]}}},
            "SettingUnused",
        ),
    ],
)
def test_a_bad_spec_is_refused_before_a_pod_exists(change: dict[str, object], reason: str) -> None:
    w = World(SPEC | change)
    w.settle()
    assert w.condition("Stalled", "True", reason) and w.names("Job") == [] and w.names("ModelRevision") == []
    w.edit(**{k: SPEC.get(k, {}) for k in change})
    w.serve()
    assert w.condition("Ready") and not w.condition("Stalled")


def test_a_bad_edit_leaves_the_served_revision_alone() -> None:
    w = World()
    w.serve()
    w.edit(optimization={"steps": [{"name": "q", "type": "Quantize"}]})
    w.settle()
    assert (
        w.condition("Ready", "False", "ExportMissing") and w.condition("Available") and len(w.names("Deployment")) == 1
    )


def test_a_missing_runtime_waits_for_it() -> None:
    w = World(runtime=None)
    w.settle()
    assert w.condition("Ready", "False", "RuntimeNotFound") and not w.condition("Stalled")
    w.set_runtime({"image": "triton:1"})
    w.serve()
    assert w.condition("Ready")


def placed(user: dict[str, object], runtime: dict[str, str]) -> World:
    """A model whose pods both its owner and its runtime place."""
    spec = SPEC | {"serving": {"podTemplate": {"spec": user}}}
    w = World(spec, runtime={"image": "triton:1", "nodeSelector": runtime})
    w.serve()
    return w


def test_pods_go_where_both_the_owner_and_the_runtime_want_them() -> None:
    user = {
        "nodeSelector": {"zone": "a", "pool": "gpu"},
        "tolerations": [{"key": "gpu"}],
        "affinity": {"podAffinity": {}},
    }
    w = placed(user, {"pool": "gpu", "disk": "ssd"})
    pod = w.get("Deployment", w.names("Deployment")[0])["spec"]["template"]["spec"]
    assert w.condition("Ready") and pod["nodeSelector"] == {"zone": "a", "pool": "gpu", "disk": "ssd"}
    assert (pod["tolerations"], pod["affinity"]) == (user["tolerations"], user["affinity"])


def test_a_node_selector_that_contradicts_the_runtime_is_refused_and_not_ignored() -> None:
    w = placed({"nodeSelector": {"pool": "cpu"}}, {"pool": "gpu"})
    assert w.condition("Ready", "False", "NodeSelectorConflict") and w.names("Deployment") == []
    assert "asks for pool=cpu, and ClusterTritonRuntime default for pool=gpu" in w.message()
    w.edit(serving={"podTemplate": {"spec": {"nodeSelector": {"zone": "a"}}}})
    w.serve()
    assert w.condition("Ready")
