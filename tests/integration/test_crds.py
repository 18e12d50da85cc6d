"""What a real API server makes of our schemas: samples and defaults, scale, what never changes, what people read."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.crds import S3, Cluster, Object, canary, model, recipe, step

REPO = Path(__file__).parents[2]
SAMPLES = sorted((REPO / "manifests" / "samples").glob("*.yaml"))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_samples_are_accepted(cluster: Cluster, path: Path) -> None:
    cluster.accepted(yaml.safe_load(path.read_text()))


def test_a_recipe_may_leave_texts_open(cluster: Cluster) -> None:
    adapt = {"data": "$(data)/train", "training": {"learningRate": "$(learning-rate)"}}
    bar = {"name": "a", "metric": "Accuracy", "data": "$(data)/test", "maxDrop": "$(max-drop)", "confidence": "$(sure)"}
    found = recipe({"name": "adapt", "type": "FineTune", "fineTune": adapt}, gates=[bar])
    spec = cluster.accepted(found)["spec"]
    assert (
        spec["steps"][0]["fineTune"]["training"] | {"learningRate": "$(learning-rate)", "epochs": 3}
        == (spec["steps"][0]["fineTune"]["training"])
    )
    assert spec["gates"] == [bar]


def test_old_pods_need_not_drain_and_a_stage_may_pass_at_once(cluster: Cluster) -> None:
    document = canary(5)
    document["spec"]["rollout"] |= {"drain": "0s"}
    document["spec"]["rollout"]["steps"][0]["minDuration"] = "0s"
    cluster.accepted(document)


def test_another_model_may_be_the_student(cluster: Cluster) -> None:
    """The name is left to a parameter, or what the parameter gives."""
    taught = {
        "name": "a",
        "type": "Distill",
        "distill": {"data": "eval", "student": "$(student)", "hidden": "$(hidden)"},
    }
    cluster.accepted(recipe(taught))
    found = step("Distill", distill={"data": "eval", "student": "half", "hidden": "0"})
    found["spec"]["models"] = [{"name": "half", "huggingFace": {"repo": "org/half"}}, {"name": "spare", "s3": S3}]
    spec = cluster.accepted(found)["spec"]
    assert spec["models"][0]["huggingFace"] == {"repo": "org/half", "revision": "main"}
    assert spec["optimization"]["steps"][0]["distill"]["student"] == "half"


def test_defaults_appear(cluster: Cluster) -> None:
    spec = cluster.accepted(model())["spec"]
    assert spec["optimization"]["steps"] == [{"name": "export", "type": "Export"}]
    assert spec["serving"]["runtimeRef"] == {"kind": "ClusterTritonRuntime", "name": "default"}
    assert spec["serving"]["batching"] == {"maxBatchSize": 8, "lengthBuckets": [16, 32, 64, 128, 256]}
    assert spec["rollout"]["revisionHistoryLimit"] == 5
    assert spec["artifacts"]["deletionPolicy"] == "Retain"
    assert spec["suspend"] is False


def test_scale_moves_replicas_unless_an_autoscaler_owns_them(cluster: Cluster) -> None:
    for name, serving in (("fixed", {}), ("elastic", {"autoscaling": {}})):
        document = model(serving=serving)
        document["metadata"]["name"] = name
        cluster.must("create", "-f", "-", document=document)
    cluster.must("scale", "om/fixed", "-n", "team-a", "--replicas=3")
    assert cluster.must("get", "om/fixed", "-n", "team-a", "-o", "jsonpath={.spec.serving.replicas}") == "3"
    refused = cluster.kubectl("scale", "om/elastic", "-n", "team-a", "--replicas=3")
    assert "set replicas or autoscaling, not both" in refused.stderr


def revision(**changes: Any) -> Object:
    spec = {
        "model": "m",
        "hash": "abc",
        "number": 1,
        "task": "TextEmbedding",
        "source": {"s3": S3},
        "steps": [{"name": "export", "type": "Export"}],
        "batching": {},
        "runtime": {"image": "triton:1"},
    }
    metadata = {"name": "m-abc", "namespace": "team-a"}
    return {
        "apiVersion": "optimodel.dev/v1alpha1",
        "kind": "ModelRevision",
        "metadata": metadata,
        "spec": spec | changes,
    }


def test_a_revision_never_changes(cluster: Cluster) -> None:
    cluster.must("apply", "--server-side", "-f", "-", document=revision())
    cluster.must("apply", "--server-side", "-f", "-", document=revision())
    changed = cluster.kubectl("apply", "--server-side", "-f", "-", document=revision(number=2))
    assert "a ModelRevision never changes: change its OptimizedModel" in changed.stderr
    assert cluster.must("get", "mrev", "m-abc", "-n", "team-a", "-o", "jsonpath={.spec.number}") == "1"


@pytest.mark.parametrize("kind", ["TritonRuntime", "ClusterTritonRuntime"])
def test_a_runtime_leaves_safety_to_the_operator(cluster: Cluster, kind: str) -> None:
    metadata = {"name": "r"} | ({"namespace": "team-a"} if kind == "TritonRuntime" else {})
    document: Object = {"apiVersion": "optimodel.dev/v1alpha1", "kind": kind, "metadata": metadata}
    cluster.accepted(document | {"spec": {"image": "triton:1", "args": ["--log-verbose=1"]}})
    message = cluster.refusal(document | {"spec": {"image": "triton:1", "args": ["--model-control-mode=poll"]}})
    assert "the operator sets the repository, its control mode" in message


def test_columns_that_people_read(cluster: Cluster) -> None:
    document = model()
    document["metadata"]["name"] = "shown"
    cluster.must("create", "-f", "-", document=document)
    header = cluster.must("get", "om", "-n", "team-a").splitlines()[0].split()
    assert header == ["NAME", "PHASE", "READY", "REVISION", "CANARY", "SIZE", "QUALITY", "REPLICAS", "AGE"]
