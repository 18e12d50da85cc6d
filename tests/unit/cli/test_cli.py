"""What a person reads and writes at the terminal."""

from datetime import UTC, datetime
from typing import Any

import pytest

from optimodel.cli import view
from optimodel.cli.main import Refused, action, parse

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def model(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "m", "namespace": "a", "generation": 2}, "spec": {}, "status": status}


def ready(status: str, generation: int) -> dict[str, Any]:
    return {"type": "Ready", "status": status, "reason": "Serving", "message": "", "observedGeneration": generation}


def rollout(phase: str) -> dict[str, Any]:
    return {"phase": phase, "stable": "aaa", "candidate": "bbb", "step": 1, "stepName": "half", "weight": 50}


def test_ready_counts_for_the_present_generation_only() -> None:
    assert view.is_ready(model(conditions=[ready("True", 2)]))
    assert not view.is_ready(model(conditions=[ready("True", 1)]))
    assert not view.is_ready(model(conditions=[ready("False", 2)]))


def test_an_action_names_what_it_is_for() -> None:
    waiting = model(revision="bbb", rollout=rollout("AwaitingApproval"))
    assert action("approve", waiting, NOW) == "approve bbb/half 2026-01-02T03:04:05.000+00:00"
    assert action("abort", waiting, NOW).startswith("abort bbb ")
    assert action("retry", model(revision="bbb"), NOW).startswith("retry bbb ")


@pytest.mark.parametrize(
    ("verb", "om", "why"),
    [
        ("approve", model(rollout=rollout("Settling")), "phase Settling"),
        ("promote", model(revision="bbb"), "no rollout"),
        ("retry", model(), "no revision"),
        ("retry", model(revision="bbb") | {"spec": {"suspend": True}}, "suspend"),
        ("abort", model(rollout=rollout("RollingBack")), "going back already"),
    ],
)
def test_an_action_without_an_object_is_refused(verb: str, om: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused, match=why):
        action(verb, om, NOW)


def test_a_watcher_sees_each_change_once() -> None:
    seen: dict[str, str] = {}
    before = model(phase="Optimizing", steps=[{"name": "int8", "state": "Running", "percent": 30}])
    assert "step int8: Running" in view.changes(seen, before)
    assert view.changes(seen, before) == []
    moved = model(phase="Canary", revisions=[{"hash": "aaa", "weight": 90}, {"hash": "bbb", "weight": 10}])
    assert view.changes(seen, moved) == ["phase: Canary", "weights aaa 90 %, bbb 10 %"]


def test_the_table_has_before_and_after() -> None:
    figures = {"sizeRatio": "0.25", "cosineMean": "0.99", "cosineP5": "0.98", "cosineMin": "0.97", "samples": 300}
    lines = view.table(model(size="86.6Mi->21.9Mi", figures=figures))
    assert any("86.6Mi" in x and "21.9Mi" in x and "0.25" in x for x in lines)
    assert any("p5 0.98" in x and "300 sentences" in x for x in lines)
    assert view.table(model()) == []


def test_the_summary_names_every_condition() -> None:
    text = "\n".join(view.summary(model(phase="Ready", conditions=[ready("True", 2)], rollout=rollout("Paused"))))
    assert "a/m  Ready" in text and "Serving" in text and "rollout: Paused (step half)" in text


def test_the_summary_tells_why_a_search_ended_as_it_did() -> None:
    found = {
        "objective": "Size",
        "reason": "weights-int4: the size is 0.2 of the baseline's.",
        "winner": "weights-int4",
    }
    assert f"search: {found['reason']}" in view.summary(model(search=found))


def test_the_summary_tells_the_whole_failure_and_when_it_is_tried_again() -> None:
    failure = {"component": "worker", "reason": "BucketMissing", "message": "the bucket is not there. " * 20 + "END"}
    text = "\n".join(view.summary(model(lastFailure=failure, attempt={"retryAt": "2026-01-02T03:04:05Z"})))
    assert "worker: BucketMissing" in text and "END (next attempt 2026-01-02T03:04:05Z)" in text


def test_the_command_line() -> None:
    options = parse(["status", "m", "-n", "team", "-w"])
    assert (options.command, options.name, options.namespace, options.watch) == ("status", "m", "team", True)
