"""The operator-worker contract: the Job's input, its progress page, its exit codes and its compact result.

Input travels as JSON in the environment variable `JOB_ENV`; credentials travel beside it by `secretKeyRef` (see `credential_env`).
The result is the container's termination message (<= 4096 bytes of JSON). The init container that pulls an artifact gets
`PullInput` as JSON in `PULL_ENV`.
"""

from __future__ import annotations

import enum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .search import Auto, SearchResult
from .sources import Artifacts, Dataset, Model, Source
from .spec import Accelerator, Batching, Gate, Parallelism, Shape, Task
from .steps import Step
from .struct import Decimal, Digest, Label, Name, Number, Size, Struct, Words

JOB_ENV = "OPTIMODEL_JOB"
PULL_ENV = "OPTIMODEL_PULL"
MILLICPUS_ENV = "OPTIMODEL_MILLICPUS"
PROBE_SECONDS_ENV = "OPTIMODEL_PROBE_SECONDS"
"""Thousandths of CPUs that the worker's container may use: its limit, or else all of the node."""
PROGRESS_PORT = 8080
PROGRESS_PATH = "/progress"
TERMINATION_LIMIT = 4096

SOURCE_MOUNT = "/mnt/source"
STORE_MOUNT = "/mnt/store"
DATA_MOUNT = "/mnt/data"
MODEL_MOUNT = "/mnt/models"
"""Claims appear here; those of a dataset or of another model in a folder of its name."""
WORK_MOUNT = "/work"
"""Scratch of the worker (emptyDir)."""
RENDEZVOUS_ENV = "OPTIMODEL_RENDEZVOUS"
"""`host:port` at which the processes of one Job find the first of them. Their number is Kubernetes' `INDEX_ENV`."""
RENDEZVOUS_PORT = 29500
INDEX_ENV = "JOB_COMPLETION_INDEX"
MODELS_MOUNT = "/models"
"""The rendered Triton model repository (emptyDir shared by the init container and Triton)."""


class ExitCode(enum.IntEnum):
    """How the worker ends. The operator trusts the result document first, the code second."""

    OK = 0
    INTERNAL = 1
    """A defect of ours: retried a few times."""
    SPEC = 10
    """Only a changed spec helps."""
    WORLD = 11
    """The world may mend: retried with growing delays."""
    GATE = 12
    """The result did not clear its gates."""


def credential_env(role: str) -> dict[str, str]:
    """Secret key -> environment variable for one role (`source`, `store`, `data-NAME`, `model-NAME`). All keys are optional in the Secret
    except those that the role's protocol needs."""
    prefix = role.upper().replace("-", "_")
    return {key: f"{prefix}_{key}" for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN")}


class Pins(Struct, frozen=True):
    """Where a Job of some steps left off: the digests that the source, the rows of the steps and by their names other models
    resolved to, since later Jobs of the revision refuse any other, and the last step that is done."""

    source: Label
    data: Label = ""
    step: Name = ""
    models: Annotated[dict[str, Label], Meta(max_length=2)] = msgspec.field(default_factory=dict)


class JobInput(Struct, frozen=True):
    """What a worker Job is asked to do. `evaluation` keys the evidence: gates + data + shapes (see `recipes.identity`)."""

    model: str
    namespace: str
    revision: str
    evaluation: str
    task: Task
    source: Source
    artifacts: Artifacts
    steps: tuple[Step, ...]
    auto: Auto | None = None
    gates: tuple[Gate, ...] = ()
    data: tuple[Dataset, ...] = ()
    models: tuple[Model, ...] = ()
    shapes: tuple[Shape, ...] = ()
    accelerator: Accelerator | None = None
    """What runs the graph that is made; None = the CPU."""
    batching: Batching = Batching()
    """As served: evaluation pads inputs as serving does."""
    pinned_source: str | None = None
    """Digest that the source resolved to on an earlier attempt; the worker refuses bytes that differ."""
    pinned_data: str | None = None
    """Digest of the rows that steps read on an earlier attempt; likewise."""
    pinned_models: dict[str, str] = msgspec.field(default_factory=dict)
    """Digests of other models by their names; likewise."""
    processes: int = 1
    """Processes that train together; the first of them does all else and alone publishes."""
    parallelism: Parallelism = "DDP"
    release: str = ""
    """The operator's version. A worker of another might not know what it is asked, and leave it out in silence."""
    until: str | None = None
    """The last step of this Job, where others finish its work; None = it evaluates and publishes."""


class Sender(Struct, frozen=True):
    """What can be read of a `JobInput` that another release has written."""

    release: str = ""


class CleanupInput(Struct, frozen=True):
    """What a cleanup Job removes: artifact digests that nobody names any more."""

    namespace: str
    artifacts: Artifacts
    digests: tuple[str, ...]


class StepProgress(Struct, frozen=True):
    """One line of the progress page and of `status.steps`."""

    name: Name
    state: Literal["Pending", "Running", "Done", "Cached", "Failed"]
    percent: Annotated[int, Meta(ge=0, le=100)] = 0
    seconds: Annotated[str, Meta(max_length=24)] = "0"
    message: Words = ""
    bytes: Size = 0
    """Weight bytes after this step."""


Steps = Annotated[tuple[StepProgress, ...], Meta(max_length=32)]


class Progress(Struct, frozen=True):
    """The page a running worker serves at `PROGRESS_PATH`: `steps` covers Fetch, every step, Search where the recipe is searched for,
    Evaluate and Publish."""

    phase: Literal["Fetch", "Optimize", "Evaluate", "Publish", "Done"]
    steps: Steps = ()


class GateResult(Struct, frozen=True):
    """A gate with its number and verdict. `low` and `high` bound the value at the gate's confidence."""

    name: Name
    metric: Name
    verdict: Literal["Pass", "Fail", "Inconclusive"]
    value: Name = ""
    low: Name = ""
    high: Name = ""
    bound: Name = ""
    samples: Number = 0
    message: Words = ""


class Golden(Struct, frozen=True):
    """One remembered answer: `text` in, the first values of the output tensor `output` out, or those at `places`, within
    `tolerance`."""

    text: Annotated[str, Meta(max_length=2048)]
    output: Label
    head: Annotated[tuple[Decimal, ...], Meta(max_length=64)]
    tolerance: Decimal = "0.01"
    max_tokens: Number = 0
    """How long the answer may be, where a model writes it; 0 = not said."""
    places: Annotated[tuple[Annotated[int, Meta(ge=0, le=2**31 - 1)], ...], Meta(max_length=64)] = ()


class Tensor(Struct, frozen=True):
    """An input or output of the served model. `dims` exclude the batch dimension; -1 = variable."""

    name: Label
    datatype: Decimal
    dims: Annotated[tuple[Size, ...], Meta(max_length=8)]


Tensors = Annotated[tuple[Tensor, ...], Meta(max_length=16)]


class Artifact(Struct, frozen=True):
    """A published artifact. `digest` is `sha256:<hex>` of its manifest; bytes are `weights_bytes` of the graph and `bytes` in all."""

    digest: Digest
    bytes: Size
    weights_bytes: Size
    source_digest: Digest
    source_weights_bytes: Size
    data_digest: Digest = ""
    """What the rows that steps and the search read say; empty where none reads any."""
    models: Annotated[dict[str, Digest], Meta(max_length=2)] = msgspec.field(default_factory=dict)
    """Digests of the other models that steps read, by their names."""
    inputs: Tensors = ()
    outputs: Tensors = ()
    max_batch_size: Number = 0
    """Largest batch at which answers do not depend on batch neighbours: 1 unless batch invariance held; 0 = no limit."""
    golden: Golden | None = None


class Figures(Struct, frozen=True):
    """Before/after numbers, decimals as strings: cosines to the baseline, size, latency at the first shape, batch invariance."""

    cosine_mean: Decimal = ""
    cosine_p5: Decimal = ""
    cosine_min: Decimal = ""
    accuracy: Decimal = ""
    baseline_accuracy: Decimal = ""
    perplexity: Decimal = ""
    baseline_perplexity: Decimal = ""
    samples: Number = 0
    size_ratio: Decimal = ""
    baseline_p50_ms: Decimal = ""
    p50_ms: Decimal = ""
    speedup: Decimal = ""
    speedup_low: Decimal = ""
    speedup_high: Decimal = ""
    batch_invariance: Decimal = ""


class Result(Struct, frozen=True):
    """What a worker leaves in its termination message."""

    outcome: Literal["Succeeded", "Failed"]
    reason: Label
    message: str = ""
    component: Label = "worker"
    artifact: Artifact | None = None
    steps: Steps = ()
    gates: Annotated[tuple[GateResult, ...], Meta(max_length=32)] = ()
    figures: Figures | None = None
    search: SearchResult | None = None
    report: Words = ""
    """Key of the full report in the store."""
    pins: Pins | None = None
    """Of a Job that ended at its `until`: what the next one goes on from."""


class PullInput(Struct, frozen=True):
    """What the init container fetches, and how the model repository is rendered from it.

    `model` is the public Triton model name; `max_batch_size` is already lowered to the artifact's own limit. `half`: the graph is
    one of half precision, which TensorRT has to be told.
    """

    model: str
    namespace: str
    digest: str
    artifacts: Artifacts
    batching: Batching
    accelerator: Accelerator | None = None
    half: bool = False


def encode(value: Struct) -> str:
    """Compact JSON of a contract document."""
    return msgspec.json.encode(value).decode()
