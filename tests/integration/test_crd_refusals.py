"""A real API server refuses what it can refuse, and its message tells a person what to do."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from devcluster.addons import define
from devcluster.apiserver import ApiServer
from devcluster.binaries import binary
from tests.integration.process import CRDS

REPO = Path(__file__).parents[2]
SAMPLES = sorted((REPO / "manifests" / "samples").glob("*.yaml"))
S3 = {"url": "s3://bucket/prefix"}
Object = dict[str, Any]


class Cluster:
    """kubectl on an API server of its own."""

    def __init__(self, kubeconfig: Path) -> None:
        self._command = [str(binary("kubectl")), f"--kubeconfig={kubeconfig}"]

    def kubectl(self, *arguments: str, document: Object | None = None) -> subprocess.CompletedProcess[str]:
        text = json.dumps(document) if document is not None else None
        return subprocess.run([*self._command, *arguments], input=text, capture_output=True, text=True, timeout=60)

    def must(self, *arguments: str, document: Object | None = None) -> str:
        done = self.kubectl(*arguments, document=document)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def try_create(self, document: Object, *flags: str) -> subprocess.CompletedProcess[str]:
        return self.kubectl("create", "--dry-run=server", "-o", "json", *flags, "-f", "-", document=document)

    def refusal(self, document: Object) -> str:
        done = self.try_create(document)
        assert done.returncode != 0, "accepted"
        return done.stderr

    def accepted(self, document: Object) -> Object:
        done = self.try_create(document)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with ApiServer() as api:
        cluster = Cluster(api.kubeconfig)
        define(api.kubeconfig, CRDS)
        cluster.must("create", "namespace", "team-a")
        yield cluster


def model(**changes: Any) -> Object:
    """A small valid object; keyword `a__b=x` sets spec.a.b."""
    spec: Object = {"task": "TextEmbedding", "source": {"s3": dict(S3)}, "artifacts": {"s3": dict(S3)}}
    for path, value in changes.items():
        *parents, last = path.split("__")
        at = spec
        for name in parents:
            at = at.setdefault(name, {})
        at[last] = value
    return {
        "apiVersion": "optimodel.dev/v1alpha1",
        "kind": "OptimizedModel",
        "metadata": {"name": "m", "namespace": "team-a"},
        "spec": spec,
    }


def step(kind: str, **settings: Any) -> Object:
    """A model with one step."""
    return model(optimization__steps=[{"name": "a", "type": kind, **settings}])


def recipe(*steps: Object, **spec: Any) -> Object:
    """A recipe with these steps."""
    return {
        "apiVersion": "optimodel.dev/v1alpha1",
        "kind": "OptimizationRecipe",
        "metadata": {"name": "r", "namespace": "team-a"},
        "spec": {"steps": list(steps), **spec},
    }


def named(name: str) -> Object:
    document = model()
    document["metadata"]["name"] = name
    return document


def canary(*weights: int) -> Object:
    steps = [{"name": f"s{i}", "weight": w} for i, w in enumerate(weights)]
    return model(rollout__steps=steps, rollout__router={"parentRefs": [{"name": "inference"}]})


DATA = {"name": "eval", "s3": S3}
TEMPLATE = "optimization__podTemplate__spec"
REFUSED: dict[str, tuple[Callable[[], Object], list[str]]] = {
    "unknown field": (lambda: model(optimisation={}), ["unknown field", "spec.optimisation"]),
    "two sources": (
        lambda: model(source__pvc={"claimName": "c"}),
        ["spec.source", "name exactly one source: huggingFace, s3 or pvc"],
    ),
    "no source": (lambda: model(source={}), ["spec.source", "name exactly one source"]),
    "source left out": (lambda: model(source=None), ["spec.source", "Required value"]),
    "two stores": (lambda: model(artifacts__pvc={"claimName": "c"}), ["exactly one place for the artifacts"]),
    "dataset nowhere": (lambda: model(data=[{"name": "eval"}]), ["exactly one place for the dataset"]),
    "dataset claim without a file": (
        lambda: model(data=[{"name": "eval", "pvc": {"claimName": "c"}}]),
        ["name the file in pvc.path"],
    ),
    "same name twice": (lambda: model(data=[DATA, DATA]), ["spec.data[1]", "Duplicate value"]),
    "replicas and autoscaling": (
        lambda: model(serving={"replicas": 2, "autoscaling": {}}),
        ["spec.serving", "set replicas or autoscaling, not both"],
    ),
    "more than most": (
        lambda: model(serving__autoscaling={"minReplicas": 5, "maxReplicas": 2}),
        ["minReplicas may not exceed maxReplicas"],
    ),
    "settings of another step": (
        lambda: model(optimization__steps=[{"name": "a", "type": "Export", "quantize": {}}]),
        ["quantize belongs to a step of type Quantize"],
    ),
    "parameters of no recipe": (
        lambda: model(optimization={"parameters": {"data": "eval"}}),
        ["parameters belong to a recipe: name it in recipeRef"],
    ),
    "recipe without a name": (
        lambda: model(optimization__recipeRef={}),
        ["spec.optimization.recipeRef.name", "Required"],
    ),
    "recipe whose decimal is a word": (
        lambda: recipe({"name": "a", "type": "FineTune", "fineTune": {"data": "x", "training": {"warmup": "$(Warm)"}}}),
        ["fineTune.training.warmup", "should match"],
    ),
    "recipe with settings of another step": (
        lambda: recipe({"name": "a", "type": "Export", "quantize": {}}),
        ["quantize belongs to a step of type Quantize"],
    ),
    "unknown technique": (
        lambda: model(optimization__steps=[{"name": "a", "type": "Magic"}]),
        [
            "spec.optimization.steps[0].type",
            'supported values: "FineTune", "Distill", "Prune", "QAT", "Export", "Quantize"',
        ],
    ),
    "training without data": (lambda: step("FineTune"), ["add fineTune, distill or qat with the name of its data"]),
    "adapters without LoRA": (
        lambda: step("FineTune", fineTune={"data": "eval", "rank": 4}),
        ["rank and alpha belong to method LoRA"],
    ),
    "learning rate in words": (
        lambda: step("FineTune", fineTune={"data": "eval", "training": {"learningRate": "small"}}),
        ["fineTune.training.learningRate", "should match"],
    ),
    "layers out of order": (
        lambda: step("Distill", distill={"data": "eval", "keepLayers": [3, 1]}),
        ["list each layer once, in ascending order"],
    ),
    "a student of the teacher's layers and of its own": (
        lambda: step("Distill", distill={"data": "eval", "student": "half", "hidden": "0", "keepLayers": [1]}),
        ["keepLayers are the teacher's, and student is another model"],
    ),
    "hidden states of another model": (
        lambda: step("Distill", distill={"data": "eval", "student": "half"}),
        ['set hidden to "0"'],
    ),
    "recipe with hidden states of another model": (
        lambda: recipe({"name": "a", "type": "Distill", "distill": {"data": "eval", "student": "$(student)"}}),
        ['set hidden to "0"'],
    ),
    "another model nowhere": (lambda: model(models=[{"name": "half"}]), ["exactly one place for the model"]),
    "another model in two places": (
        lambda: model(models=[{"name": "half", "s3": S3, "huggingFace": {"repo": "org/half"}}]),
        ["spec.models[0]", "exactly one place for the model: huggingFace, s3 or pvc"],
    ),
    "another model at an address that climbs": (
        lambda: model(models=[{"name": "half", "s3": {"url": "s3://bucket/../x"}}]),
        ["spec.models[0].s3.url", 'without ".."'],
    ),
    "a model twice": (
        lambda: model(models=[{"name": "half", "s3": S3}] * 2),
        ["spec.models[1]", "Duplicate value"],
    ),
    "vocabulary of nothing": (
        lambda: step("Prune", prune={"method": "Vocabulary"}),
        ["name data of the kind that will be served"],
    ),
    "calibration without data": (
        lambda: step("Quantize", quantize={"method": "GPTQ"}),
        ["Static, GPTQ, AWQ and FP8 calibrate on data"],
    ),
    "four bits at run time": (
        lambda: step("Quantize", quantize={"bits": 4}),
        ["bits 4 and groupSize belong to WeightOnly, GPTQ and AWQ"],
    ),
    "training for four bits at run time": (
        lambda: step("QAT", qat={"data": "eval", "bits": 4}),
        ["bits 4 and groupSize belong to WeightOnly"],
    ),
    "a search beside what it is to find": (
        lambda: model(
            optimization__auto={"validation": "eval"}, optimization__steps=[{"name": "q", "type": "Quantize"}]
        ),
        ["auto finds out how to quantize"],
    ),
    "a search that prunes by nothing": (
        lambda: model(optimization__auto={"validation": "eval", "prune": ["FFN"]}),
        ["prune needs text to prune by"],
    ),
    "parts of more than all": (
        lambda: model(data=[DATA | {"split": {"parts": [{"name": "a", "percent": 60}, {"name": "b", "percent": 50}]}}]),
        ["at most 100 percent together"],
    ),
    "part that is not there": (
        lambda: model(
            optimization__gates=[{"name": "g", "metric": "MacroF1", "maxDrop": "0.1", "data": "eval/test"}], data=[DATA]
        ),
        ["a dataset, or a part, that spec.data does not list"],
    ),
    "drop of what has no baseline": (
        lambda: model(optimization__gates=[{"name": "g", "metric": "SizeRatio", "maxDrop": "0.1"}]),
        ["maxDrop is the only bar of a gate on Accuracy or MacroF1"],
    ),
    "weights that go down": (lambda: canary(50, 10), ["weights of a canary may not go down"]),
    "weight beyond 100": (lambda: canary(101), ["less than or equal to 100"]),
    "canary without a router": (
        lambda: model(rollout__steps=[{"name": "a", "weight": 5}]),
        ["add router, or remove steps"],
    ),
    "steps without a canary": (
        lambda: model(rollout={"strategy": "Recreate", "steps": [{"name": "a", "weight": 5}]}),
        ["steps belong to strategy Canary"],
    ),
    "shared hostname": (
        lambda: model(rollout__router={"parentRefs": [{"name": "g"}], "hostnames": {"http": ["a.b"], "grpc": ["a.b"]}}),
        ["may not share a hostname"],
    ),
    "long name": (lambda: named("a" * 41), ["at most 40 characters"]),
    "name that begins with a digit": (lambda: named("1st"), ["beginning with a letter"]),
    "gate without a bar": (
        lambda: model(optimization__gates=[{"name": "g", "metric": "SizeRatio"}]),
        ["set min, max or maxDrop"],
    ),
    "gate without data": (
        lambda: model(optimization__gates=[{"name": "g", "metric": "Accuracy", "min": "0.9"}]),
        ["name a dataset of spec.data"],
    ),
    "gate on a dataset that is not there": (
        lambda: model(
            optimization__gates=[{"name": "g", "metric": "Accuracy", "min": "0.9", "data": "other"}], data=[DATA]
        ),
        ["a dataset, or a part, that spec.data does not list"],
    ),
    "bar that is no decimal": (
        lambda: model(optimization__gates=[{"name": "g", "metric": "SizeRatio", "max": "small"}]),
        ["write a decimal in quotes"],
    ),
    "timeout without a unit": (lambda: model(optimization__timeout="2 hours"), ['such as "30s", "5m" or "1h30m"']),
    "attempts of no time": (lambda: model(optimization__timeout="0s"), ["spec.optimization.timeout", "above zero"]),
    "a search of no time": (
        lambda: model(optimization__auto={"validation": "eval", "timeout": "0h0m"}),
        ["spec.optimization.auto.timeout", "above zero"],
    ),
    "a deadline of no time": (
        lambda: model(rollout__progressDeadline="0m0s"),
        ["spec.rollout.progressDeadline", "above zero"],
    ),
    "address of another store": (lambda: model(source__s3__url="https://bucket/x"), ["write s3://bucket/prefix"]),
    "address that climbs": (lambda: model(source__s3__url="s3://bucket/../x"), ['without ".."']),
    "endpoint with credentials": (
        lambda: model(source__s3={**S3, "endpoint": "http://user:word@store"}),
        ["without credentials"],
    ),
    "path that climbs": (
        lambda: model(source={"pvc": {"claimName": "c", "path": "a/../../b"}}),
        ["spec.source.pvc.path", 'without ".."'],
    ),
    "buckets out of order": (lambda: model(serving__batching={"lengthBuckets": [64, 16]}), ["ascending order"]),
    "pod template with a security context": (
        lambda: model(**{TEMPLATE: {"securityContext": {"runAsUser": 0}}}),
        ["unknown field", "podTemplate.spec.securityContext"],
    ),
    "pod template with containers": (lambda: model(**{TEMPLATE: {"containers": []}}), ["podTemplate.spec.containers"]),
    "pod template with a host path": (
        lambda: model(**{TEMPLATE: {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}),
        ["podTemplate.spec.volumes"],
    ),
    "pods for all steps and for some": (
        lambda: model(optimization={"podTemplate": {}, "podTemplates": [{"steps": ["a"]}]}),
        ["move it into podTemplates"],
    ),
    "a worker image that is not a name": (
        lambda: model(optimization__podTemplate={"workerImage": "registry.example/worker:1"}),
        ["podTemplate.workerImage", "name an image that the platform offers"],
    ),
    "a worker image of a step that is not a name": (
        lambda: model(optimization__podTemplates=[{"steps": ["a"], "workerImage": ""}]),
        ["podTemplates[0].workerImage", "name an image that the platform offers"],
    ),
    "a worker image for what serves": (
        lambda: model(serving__podTemplate={"workerImage": "gpu"}),
        ["unknown field", "serving.podTemplate.workerImage"],
    ),
    "pods of a step twice": (
        lambda: model(optimization__podTemplates=[{"steps": ["a", "b"]}, {"steps": ["b"]}]),
        ["one entry of podTemplates"],
    ),
    "parts for one process": (lambda: model(optimization__parallelism="FSDP"), ["set processes to 2 or more"]),
    "pods of the rest twice": (lambda: model(optimization__podTemplates=[{}, {}]), ["one entry may be without steps"]),
    "labels of ours": (
        lambda: model(optimization__podTemplate={"metadata": {"labels": {"optimodel.dev/model": "x"}}}),
        ["belong to the operator"],
    ),
    "200 KB in a string": (lambda: model(source__refresh="x" * 200_000), ["spec.source.refresh", "Too long"]),
    "200 KB in a list": (
        lambda: model(data=[{"name": f"d{i}", "s3": S3} for i in range(4000)]),
        ["spec.data", "must have at most 16 items"],
    ),
    "200 KB of annotations for pods": (
        lambda: model(
            optimization__podTemplate={"metadata": {"annotations": {f"k{i}": "x" * 200 for i in range(1000)}}}
        ),
        ["annotations", "must have at most 16 items"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_a_message_to_act_on(cluster: Cluster, case: str) -> None:
    make, words = REFUSED[case]
    message = cluster.refusal(make())
    missing = [w for w in words if w not in message]
    assert not missing, message
    assert len(message) < 4_000, "a message that long is not read"


def test_security_fields_never_take_effect_without_field_validation(cluster: Cluster) -> None:
    document = model(**{TEMPLATE: {"securityContext": {"runAsUser": 0}, "serviceAccountName": "builder"}})
    done = cluster.try_create(document, "--validate=ignore")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["spec"]["optimization"]["podTemplate"]["spec"] == {"serviceAccountName": "builder"}


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
