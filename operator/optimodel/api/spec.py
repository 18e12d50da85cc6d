"""`OptimizedModel.spec` and the runtime kinds as typed, immutable values.

The CRD YAML in `crds/` is the source of truth for validation and defaults; a test walks it against these types in both
directions. Decimals travel as strings, as Kubernetes API conventions ask.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Task = Literal["TextEmbedding", "TextClassification"]
"""What the model answers: a sentence vector, or scores over labels."""

Metric = Literal[
    "CosineMean",
    "CosineP5",
    "CosineMin",
    "Accuracy",
    "MacroF1",
    "SizeRatio",
    "LatencyP50Ratio",
    "LatencyP95Ms",
    "BatchInvariance",
]
"""What a gate measures. Cosines and `Accuracy` are higher-is-better quality against the baseline's answers (Accuracy needs labels);
`SizeRatio` = weight bytes / source weight bytes; `LatencyP50Ratio` = p50 / baseline p50 (lower is faster);
`BatchInvariance` = the smallest cosine between an answer alone and the same answer inside a batch."""


class Struct(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, forbid_unknown_fields=False):
    """Base of every API type: immutable, camelCase on the wire, defaults left out when written."""


class LocalRef(Struct, frozen=True):
    """Name of an object in the same namespace."""

    name: str


class S3(Struct, frozen=True):
    """An S3 prefix. `url` is `s3://bucket/prefix`; credentials come from `secretRef` (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)."""

    url: str
    endpoint: str | None = None
    region: str | None = None
    secret_ref: LocalRef | None = None


class PVC(Struct, frozen=True):
    """A folder or file on a claim of the same namespace."""

    claim_name: str
    path: str = ""


class HuggingFace(Struct, frozen=True):
    """A repository on a Hugging Face compatible hub; `secretRef` holds HF_TOKEN."""

    repo: str
    revision: str = "main"
    endpoint: str | None = None
    secret_ref: LocalRef | None = None


class Source(Struct, frozen=True):
    """Where the model comes from: exactly one of the members. Changing `refresh` (any text) resolves the source again."""

    hugging_face: HuggingFace | None = None
    s3: S3 | None = None
    pvc: PVC | None = None
    refresh: str | None = None


DeletionPolicy = Literal["Retain", "Delete"]


class Artifacts(Struct, frozen=True):
    """The artifact store of this object: an S3 prefix or a claim, and what happens to the bytes when the object goes."""

    s3: S3 | None = None
    pvc: PVC | None = None
    deletion_policy: DeletionPolicy = "Retain"


class Part(Struct, frozen=True):
    """A share of a dataset, in percent of its rows; named `DATASET/PART` where data is named."""

    name: str
    percent: int


class Split(Struct, frozen=True):
    """Disjoint parts of a dataset, drawn within each label with `seed` after equal texts were dropped."""

    parts: tuple[Part, ...]
    seed: int = 0


class Dataset(Struct, frozen=True):
    """A named file of texts: JSON Lines, or CSV by its suffix. `labelField` where a metric or a training step needs one."""

    name: str
    s3: S3 | None = None
    pvc: PVC | None = None
    text_field: str = "text"
    label_field: str = "label"
    split: Split | None = None


class Training(Struct, frozen=True):
    """How a training loop runs: AdamW with linear warm-up and decay. Decimals are strings; `maxLength` is in tokens."""

    epochs: int = 3
    batch_size: int = 32
    learning_rate: str = "0.0001"
    warmup: str = "0.06"
    weight_decay: str = "0.01"
    max_length: int = 128
    seed: int = 0


class Adversarial(Struct, frozen=True):
    """Training on perturbed embeddings (FGM, Miyato et al. 2017): `epsilon` is the l2 norm of a text's perturbation,
    relative to that of its embeddings; `weight` is that of the perturbed loss."""

    epsilon: str = "0.1"
    weight: str = "1"


class FineTune(Struct, frozen=True):
    """Step `FineTune`: adapt the model to labelled text. LoRA (Hu et al. 2021) is merged into the weights; Head trains a
    new head on a frozen body."""

    data: str
    method: Literal["Full", "Head", "LoRA"] = "Full"
    rank: int = 8
    alpha: int = 16
    freeze_embeddings: bool = True
    adversarial: Adversarial | None = None
    training: Training = Training()


class Distill(Struct, frozen=True):
    """Step `Distill`: a student of some of the teacher's layers learns its soft labels at `temperature`, the hard labels,
    and its hidden states (Hinton et al. 2015, Sanh et al. 2019). `soft` is the share of the soft loss, `hidden` the
    weight of the hidden-state loss. No `keepLayers` = every other layer, the last among them."""

    data: str
    keep_layers: tuple[int, ...] = ()
    temperature: str = "2"
    soft: str = "0.7"
    hidden: str = "1"
    training: Training = Training()


class Recover(Struct, frozen=True):
    """Training after pruning, towards the model before it: all weights (Distill) or adapters (LoRA) that are merged."""

    data: str
    method: Literal["Distill", "LoRA"] = "Distill"
    rank: int = 8
    training: Training = Training()


class Prune(Struct, frozen=True):
    """Step `Prune`: remove what matters least. Heads, FFN (intermediate neurons), Layers and Vocabulary (token rows that
    `data` never uses) make the model smaller; Magnitude and TwoFour set weights to zero and change neither size nor
    speed by themselves. `keep` is the share that stays; Vocabulary keeps the tokens of `data` and ignores it."""

    method: Literal["Magnitude", "TwoFour", "Heads", "FFN", "Layers", "Vocabulary"] = "FFN"
    keep: str = "0.75"
    data: str | None = None
    recover: Recover | None = None


class Export(Struct, frozen=True):
    """Step `Export`: trace the model to a graph."""

    format: Literal["ONNX"] = "ONNX"


class Quantize(Struct, frozen=True):
    """Step `Quantize`: Dynamic = int8 weights, activations at run time; Static = both int8 with scales calibrated on `data`;
    WeightOnly = weights of `bits` bits in groups of `groupSize`, activations in fp32; Float16 = half-precision weights.
    `exclude` names parts of each layer that keep their precision."""

    method: Literal["Dynamic", "Static", "WeightOnly", "Float16"] = "Dynamic"
    bits: Literal[4, 8] = 8
    per_channel: bool = True
    group_size: int = 32
    data: str | None = None
    exclude: tuple[Literal["Embeddings", "Attention", "AttentionOutput", "FFNUp", "FFNDown", "Head"], ...] = ()


StepType = Literal["FineTune", "Distill", "Prune", "Export", "Quantize"]


class Step(Struct, frozen=True):
    """One optimization step; the member named after `type` carries its settings (left out = defaults)."""

    name: str
    type: StepType
    fine_tune: FineTune | None = None
    distill: Distill | None = None
    prune: Prune | None = None
    export: Export | None = None
    quantize: Quantize | None = None


class Shape(Struct, frozen=True):
    """A workload shape at which latency is measured."""

    batch_size: int = 1
    sequence_length: int = 32


class Target(Struct, frozen=True):
    """What the model is optimized for."""

    device: Literal["CPU"] = "CPU"
    shapes: tuple[Shape, ...] = (Shape(1, 32), Shape(1, 128), Shape(8, 32), Shape(8, 128))


class Gate(Struct, frozen=True):
    """A bar that the result must clear before it is served. `min` / `max` are decimals; `confidence` is that of the interval."""

    name: str
    metric: Metric
    data: str | None = None
    min: str | None = None
    max: str | None = None
    max_drop: str | None = None
    """Largest loss against the baseline on the same rows, in the metric's own units; bounds the paired difference."""
    confidence: str = "0.95"


class Parameter(Struct, frozen=True):
    """A text that a recipe leaves open, written `$(name)` in its steps and gates; without `default` it must be given."""

    name: str
    description: str = ""
    default: str | None = None


class RecipeSpec(Struct, frozen=True):
    """Steps and gates that many models share. Both scopes are alike; no `tasks` = every task."""

    steps: tuple[Step, ...]
    description: str = ""
    tasks: tuple[Task, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    gates: tuple[Gate, ...] = ()


class RecipeRef(Struct, frozen=True):
    """Which recipe the steps come from."""

    name: str
    kind: Literal["ClusterOptimizationRecipe", "OptimizationRecipe"] = "ClusterOptimizationRecipe"


class Optimization(Struct, frozen=True):
    """How the model is compressed. Left out: exported only. With a recipe, a step or gate replaces the recipe's of the same
    name as a whole, or joins them; the default steps stand for none."""

    recipe_ref: RecipeRef | None = None
    parameters: dict[str, str] | None = None
    steps: tuple[Step, ...] = (Step("export", "Export"),)
    target: Target = Target()
    gates: tuple[Gate, ...] = ()
    timeout: str = "2h"
    pod_template: dict[str, Any] | None = None


class RuntimeRef(Struct, frozen=True):
    """Which runtime serves the model."""

    kind: Literal["ClusterTritonRuntime", "TritonRuntime"] = "ClusterTritonRuntime"
    name: str = "default"


class Batching(Struct, frozen=True):
    """Triton batching. Inputs are padded to the smallest length bucket, and only equal shapes share a batch."""

    max_batch_size: int = 8
    length_buckets: tuple[int, ...] = (16, 32, 64, 128, 256)


class Autoscaling(Struct, frozen=True):
    """HorizontalPodAutoscaler on CPU utilisation, percent of the request."""

    provider: Literal["HPA"] = "HPA"
    min_replicas: int = 1
    max_replicas: int = 4
    target_cpu_utilization: int = 70
    behavior: dict[str, Any] | None = None


class Serving(Struct, frozen=True):
    """How the result is served. `replicas` and `autoscaling` exclude each other; neither = 1 replica."""

    runtime_ref: RuntimeRef = RuntimeRef()
    replicas: int | None = None
    autoscaling: Autoscaling | None = None
    batching: Batching = Batching()
    resources: dict[str, Any] | None = None
    pod_template: dict[str, Any] | None = None


class ParentRef(Struct, frozen=True):
    """A Gateway."""

    name: str
    namespace: str | None = None
    section_name: str | None = None


class Hostnames(Struct, frozen=True):
    """HTTP and gRPC need hostnames of their own: Gateway API refuses one hostname in both kinds of route."""

    http: tuple[str, ...] = ()
    grpc: tuple[str, ...] = ()


class Router(Struct, frozen=True):
    """Who splits traffic between revisions."""

    type: Literal["GatewayAPI"] = "GatewayAPI"
    parent_refs: tuple[ParentRef, ...] = ()
    hostnames: Hostnames = Hostnames()


class RolloutStep(Struct, frozen=True):
    """A stage of the canary: set the weight (percent), stay `minDuration`, wait for `approval` if Required."""

    name: str
    weight: int | None = None
    min_duration: str = "0s"
    approval: Literal["Required"] | None = None


class Rollout(Struct, frozen=True):
    """How a new revision replaces the old one. `Canary` needs a router; without one traffic switches when the new revision is Ready."""

    strategy: Literal["Canary", "Recreate"] = "Canary"
    router: Router | None = None
    steps: tuple[RolloutStep, ...] = ()
    revision_history_limit: int = 5
    progress_deadline: str = "15m"
    drain: str = "15s"


class OptimizedModelSpec(Struct, frozen=True):
    """What the team wants."""

    task: Task
    source: Source
    artifacts: Artifacts
    suspend: bool = False
    data: tuple[Dataset, ...] = ()
    optimization: Optimization = Optimization()
    serving: Serving = Serving()
    rollout: Rollout = Rollout()


class TritonRuntimeSpec(Struct, frozen=True):
    """A serving runtime: image, extra arguments, supported formats, default resources. Shared by both scopes."""

    image: str
    args: tuple[str, ...] = ()
    formats: tuple[Literal["ONNX"], ...] = ("ONNX",)
    resources: dict[str, Any] | None = None
    node_selector: dict[str, str] | None = None
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None


class ModelRevisionSpec(Struct, frozen=True):
    """An immutable version: everything that decides the answers, resolved at the moment the revision was made."""

    model: str
    hash: str
    number: int
    task: Task
    source: Source
    steps: tuple[Step, ...]
    batching: Batching
    runtime: TritonRuntimeSpec
    data: tuple[Dataset, ...] = ()
    """The datasets that steps read."""
    runtime_ref: RuntimeRef = RuntimeRef()
    """Where the runtime was found. Not part of the identity: an equal runtime under another name is the same revision."""
    recipe: RecipeSpec | None = None
    """The recipe that `steps` come from, as it was. Like its name no part of the identity, for the steps are."""
    recipe_ref: RecipeRef | None = None


def plain(value: Struct) -> dict[str, Any]:
    """The value as the API server speaks it: dicts, lists, strings and numbers only."""
    return msgspec.json.decode(msgspec.json.encode(value), type=dict[str, Any])
