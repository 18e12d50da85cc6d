"""What a person reads and writes at the terminal."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from optimodel.adapters.kube import Kube
from optimodel.cli import kubeconfig, main, view
from optimodel.cli.main import Refused, action, check_names, parse
from optimodel.errors import ApiError

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def model(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "m", "namespace": "a", "generation": 2}, "spec": {}, "status": status}


def ready(status: str, generation: int) -> dict[str, Any]:
    return {"type": "Ready", "status": status, "reason": "Serving", "message": "", "observedGeneration": generation}


def context(name: str, namespace: str) -> str:
    return f"{{name: {name}, context: {{cluster: k, user: u, namespace: {namespace}}}}}"


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
    writes = {"sizeRatio": "0.19", "perplexity": "60.19", "baselinePerplexity": "52.15", "samples": 96}
    rows = [" ".join(x.split()) for x in view.table(model(size="513.2Mi->97.4Mi", figures=writes))]
    assert "perplexity 52.15 60.19 96 texts" in rows


def test_the_summary_names_every_condition() -> None:
    text = "\n".join(view.summary(model(phase="Ready", conditions=[ready("True", 2)], rollout=rollout("Paused"))))
    assert "a/m  Ready" in text and "Serving" in text and "rollout: Paused (step half)" in text


def test_the_summary_tells_how_far_a_step_is_and_how_long_it_took() -> None:
    steps = [
        {"name": "graph", "state": "Done", "percent": 100, "seconds": "3.4"},
        {"name": "int8", "state": "Running", "percent": 75},
        {"name": "Publish", "state": "Pending"},
    ]
    lines = [" ".join(line.split()) for line in view.summary(model(phase="Optimizing", steps=steps))]
    assert {"graph Done 3.4 s", "int8 Running 75 %", "Publish Pending"} <= set(lines)


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


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        (("0.87421", "0.8", "0.9"), "1.14x slower (1.11 to 1.25)"),
        (("3.14159", "2.71828", "3.5"), "3.14x faster (2.72 to 3.50)"),
        (("0.9987", "0.95", "1.02"), "as fast (0.95 to 1.02)"),
    ],
)
def test_the_table_tells_slower_from_faster_in_two_decimals(figures: tuple[str, str, str], words: str) -> None:
    speed = dict(zip(("speedup", "speedupLow", "speedupHigh"), figures, strict=True))
    assert view.table(model(figures={"p50Ms": "8", "baselineP50Ms": "7", **speed}))[-1].endswith(f"8 ms   {words}")
    assert view.table(model(figures={"p50Ms": "8", "baselineP50Ms": "7"}))[-1].endswith("8 ms")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"contexts: [b", "not YAML"),
        (b"\xff\xfe\x00", "not YAML"),
        (b"", "its top level must be a mapping"),
        (b"- contexts", "its top level must be a mapping"),
        (b"contexts: 3", "contexts must be a list"),
        (b"contexts: [c]", r"contexts\[0\] must be a mapping with a name"),
        (b"contexts: [{name: c, context: k}]", r"contexts\[0\]\.context must be a mapping"),
        (b"users: [{name: u, user: secret}]", r"users\[0\]\.user must be a mapping"),
    ],
)
def test_a_file_that_is_no_kubeconfig_is_told(
    content: bytes, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config"
    path.write_bytes(content)
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(ApiError, match=why):
        kubeconfig.present()
    assert main(["status", "m"]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"kubeconfig {path}: ") and told.count("\n") == 1 and "secret" not in told


def test_a_kubeconfig_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path))
    with pytest.raises(ApiError, match="Is a directory"):
        kubeconfig.present()


async def test_what_the_client_trips_over_in_a_kubeconfig_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config"
    path.write_text(f"{{current-context: c, contexts: [{context('c', 'a')}], clusters: [3], users: []}}")
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ApiError, match="malformed"):
        await Kube.connect()


async def test_several_kubeconfigs_are_merged_and_the_first_value_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = "clusters: [{name: k, cluster: {server: 'http://%s'}}], users: [{name: u, user: {token: t}}]"
    contents = {
        "a": f"{{contexts: [{context('other', 'x')}]}}",
        "b": f"{{current-context: c, {rest % 'second'}}}",
        "c": f"{{current-context: other, contexts: [{context('c', 'team')}], {rest % 'third'}}}",
        "d": f"{{contexts: [{context('c', 'late')}]}}",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    paths = ["", *(str(tmp_path / name) for name in ("absent", *contents))]
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(paths))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert kubeconfig.present() == ("c", "team")
    kube = await Kube.connect("c")
    await kube.close()
    assert kube._settings.host == "http://second"


def test_without_a_kubeconfig_the_namespace_is_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    assert kubeconfig.present() == (None, "default")


@pytest.mark.parametrize("namespace", ["", "../namespaces/b", "a.b", "A", "-a", "a" * 64, "a\n"])
def test_a_namespace_that_cannot_be_is_refused_before_asking(namespace: str) -> None:
    with pytest.raises(Refused, match="is no namespace: give -n"):
        check_names(namespace, "m")


@pytest.mark.parametrize("name", ["", "m/status", "..", "m?x", "M", "m.", "m" * 254])
def test_a_name_that_cannot_be_is_refused_before_asking(name: str) -> None:
    with pytest.raises(Refused, match="is no name of an object"):
        check_names("a", name)


def test_names_that_can_be_are_asked_for() -> None:
    check_names("a" * 63, "m-1.v2")
    check_names("0", "m" * 253)


def test_a_refused_name_is_told_without_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    assert main(["status", "alpha/status"]) == 1
    assert capsys.readouterr().err.startswith("'alpha/status' is no name of an object")
