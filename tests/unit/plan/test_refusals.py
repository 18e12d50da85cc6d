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
