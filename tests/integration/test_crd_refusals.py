"""A real API server refuses what it can refuse, and its message tells a person what to do."""

import json
from collections.abc import Callable

import pytest
from tests.integration.crds import S3, Cluster, Object, canary, model, named, recipe, step

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
    "tables in integers beside floats": (
        lambda: step("Quantize", quantize={"method": "Float16", "embeddingBits": 4}),
        ["embeddingBits belong to methods of integers"],
    ),
    "bits of tables that stay whole": (
        lambda: step("Quantize", quantize={"embeddingBits": 4, "exclude": ["Embeddings"]}),
        ["remove one of the two"],
    ),
    "training for bits of tables that stay whole": (
        lambda: step("QAT", qat={"data": "eval", "embeddingBits": 4, "exclude": ["Embeddings"]}),
        ["remove one of the two"],
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
