"""`OptimizedModel.spec` and the runtime kinds as typed, immutable values.

The CRD YAML in `crds/` is the source of truth for validation and defaults; a test walks it against these types in both
directions. Decimals travel as strings, as Kubernetes API conventions ask.
"""

from __future__ import annotations

from typing import Any, Literal

from .search import Auto
from .sources import Artifacts, Dataset, Model, Source
from .steps import Step
from .struct import Struct

Task = Literal["TextEmbedding", "TextClassification", "TokenClassification", "TextGeneration", "ImageClassification"]
"""What the model answers: a sentence vector, scores over labels, a label for each word, the text that follows, or scores over labels
of an image."""

LABELLED: frozenset[Task] = frozenset({"TextClassification", "TokenClassification", "ImageClassification"})
"""Tasks that answer with labels: they can learn labels, and be right or wrong."""

GENERATING: frozenset[Task] = frozenset({"TextGeneration"})
"""Tasks of decoders: they write token after token, from a cache of what they read."""

SCORING: frozenset[Task] = LABELLED | GENERATING
"""Tasks that answer with scores, of labels or of tokens, which data tell right from wrong. The others answer with vectors."""

IMAGES: frozenset[Task] = frozenset({"ImageClassification"})
"""Tasks that are asked about images; the others are about texts."""

Metric = Literal[
    "CosineMean",
    "CosineP5",
    "CosineMin",
    "Accuracy",
    "MacroF1",
    "Perplexity",
    "PerplexityRatio",
    "NextTokenAgreement",
    "SizeRatio",
    "LatencyP50Ratio",
    "LatencyP95Ms",
    "BatchInvariance",
]
"""What a gate measures. Cosines and `Accuracy` are higher-is-better quality against the baseline's answers (Accuracy needs labels);
`Perplexity` of held-out text, its ratio to the baseline's (both lower is better) and the share of tokens after which both expect the same;
`SizeRatio` = weight bytes / source weight bytes; `LatencyP50Ratio` = p50 / baseline p50 (lower is faster);
`BatchInvariance` = the smallest cosine between an answer alone and the same answer inside a batch."""


class Shape(Struct, frozen=True):
    """A workload shape at which latency is measured. Images are all of one size: of these only the batch sizes count."""

    batch_size: int = 1
    sequence_length: int = 32


Accelerator = Literal["CUDA", "TensorRT"]
"""What runs a graph on a GPU: ONNX Runtime's CUDA provider, or TensorRT below ONNX Runtime, which compiles an engine for the
very GPU that serves."""


class Target(Struct, frozen=True):
    """What the model is optimized for. `accelerator` belongs to device GPU; none there = CUDA."""

    device: Literal["CPU", "GPU"] = "CPU"
    accelerator: Accelerator | None = None
    shapes: tuple[Shape, ...] = (Shape(1, 32), Shape(1, 128), Shape(8, 32), Shape(8, 128))

    @property
    def execution(self) -> Accelerator | None:
        """What runs the graph; None = the CPU."""
        return (self.accelerator or "CUDA") if self.device == "GPU" else None


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


EVALUATE = "Evaluate"
"""What comes after the steps, by the name under which status and `podTemplates` speak of it. No step's name has capitals."""


Parallelism = Literal["DDP", "FSDP"]
"""Of processes that train together: each holds the whole model (Li et al. 2020), or a part of it (Zhao et al. 2023)."""


class StepPodTemplate(Struct, frozen=True):
    """The pods of some steps, or, without `steps`, of those that no other template names."""

    steps: tuple[str, ...] = ()
    worker_image: str | None = None
    """One of the platform's images by its name, never a reference: what code runs with a namespace's Secrets is not for its
    tenants to choose. `pod_template` has it likewise."""
    metadata: dict[str, Any] | None = None
    spec: dict[str, Any] | None = None
    resources: dict[str, Any] | None = None


class Optimization(Struct, frozen=True):
    """How the model is compressed. Left out: exported only. With a recipe, a step or gate replaces the recipe's of the same
    name as a whole, or joins them; the default steps stand for none. Each of the `processes` is a pod; those that train share
    every batch. No part of the identity: the batches are the same, so answers differ by rounding and dropout alone."""

    recipe_ref: RecipeRef | None = None
    parameters: dict[str, str] | None = None
    steps: tuple[Step, ...] = (Step("export", "Export"),)
    auto: Auto | None = None
    target: Target = Target()
    gates: tuple[Gate, ...] = ()
    timeout: str = "2h"
    pod_template: dict[str, Any] | None = None
    pod_templates: tuple[StepPodTemplate, ...] = ()
    """In the place of `pod_template`: steps that follow each other and have the same pods are a Job. See `plan.segments`."""
    processes: int = 1
    parallelism: Parallelism = "DDP"
    queue_name: str | None = None
    """The Kueue LocalQueue that admits the Job."""


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
    models: tuple[Model, ...] = ()
    """Other models that steps name."""
    optimization: Optimization = Optimization()
    serving: Serving = Serving()
    rollout: Rollout = Rollout()


class TritonRuntimeSpec(Struct, frozen=True):
    """A serving runtime: image, extra arguments, supported formats, default resources. Shared by both scopes. Every runtime
    serves on the CPU; on a GPU with the `accelerators` of its image, where each pod gets one `acceleratorResource`."""

    image: str
    args: tuple[str, ...] = ()
    formats: tuple[Literal["ONNX"], ...] = ("ONNX",)
    resources: dict[str, Any] | None = None
    node_selector: dict[str, str] | None = None
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    accelerators: tuple[Accelerator, ...] = ()
    accelerator_resource: str = "nvidia.com/gpu"


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
    accelerator: Accelerator | None = None
    """What runs the graph; None = the CPU."""
    data: tuple[Dataset, ...] = ()
    """The datasets that steps and the search read."""
    models: tuple[Model, ...] = ()
    """The other models that steps name."""
    auto: Auto | None = None
    """The search for further steps, if one was asked for; what it found is in status."""
    runtime_ref: RuntimeRef = RuntimeRef()
    """Where the runtime was found. Not part of the identity: an equal runtime under another name is the same revision."""
    recipe: RecipeSpec | None = None
    """The recipe that `steps` come from, as it was. Like its name no part of the identity, for the steps are."""
    recipe_ref: RecipeRef | None = None
