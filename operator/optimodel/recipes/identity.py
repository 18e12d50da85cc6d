"""Identity: short hashes over a versioned canonical form.

A field whose value equals its default is left out, so that a default written by hand, or by the API server, changes
nothing, and a field added later leaves every old hash as it was. Golden hashes in a test never change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec

from optimodel.api.search import Auto
from optimodel.api.sources import Artifacts, Dataset, Model, Source
from optimodel.api.spec import Accelerator, Batching, Gate, Optimization, Parallelism, Shape, Task, TritonRuntimeSpec
from optimodel.api.steps import Export, Prune, Quantize, Step, StepType
from optimodel.api.struct import Struct

from .data import place, read_by
from .models import read_models

VERSION = 1


def canonical(value: Any) -> Any:
    """Plain data of a typed value, fields equal to their defaults left out (by value, not by identity)."""
    if isinstance(value, msgspec.Struct):
        present = ((encoded, getattr(value, name), default) for encoded, name, default in _fields(type(value)))
        return {encoded: canonical(found) for encoded, found, default in present if found != default}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, dict):
        return {str(key): canonical(item) for key, item in value.items()}
    return value


@cache
def _fields(struct: type[msgspec.Struct]) -> tuple[tuple[str, str, Any], ...]:
    """Encoded name, name and default of each field: found once, since it costs more than the hash."""
    return tuple((field.encode_name, field.name, field.default) for field in msgspec.structs.fields(struct))


def digest(value: Any, length: int) -> str:
    """The first `length` hex characters of the sha256 of canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def step_settings(step: Step) -> Struct:
    """The settings that a step runs with: those it carries, else the defaults of its type.

    Raises `KeyError` for a type that has none, since it cannot work without data (`rules.check` refuses that).
    """
    given: Struct | None = getattr(step, member(step.type))
    if given is not None:
        return given
    defaults: dict[str, type[Struct]] = {"Prune": Prune, "Export": Export, "Quantize": Quantize}
    return defaults[step.type]()


def member(kind: StepType) -> str:
    """The field of a `Step` that carries the settings of its type."""
    return "fine_tune" if kind == "FineTune" else kind.lower()


def canonical_step(step: Step) -> dict[str, Any]:
    """What a step does, without what it is called."""
    return {"type": step.type, "settings": canonical(step_settings(step))}


def canonical_dataset(item: Dataset) -> dict[str, Any]:
    """Where the rows lie and how they are read and split; fields and split left out at their defaults."""
    reading: dict[str, Any] = canonical(msgspec.structs.replace(item, name="", s3=None, pvc=None))
    del reading["name"]
    return place(item.s3, item.pvc) | reading


def canonical_source(source: Source) -> dict[str, Any]:
    """Where the bytes come from; credentials, endpoints and regions are ways there, not answers."""
    found = place(source.s3, source.pvc)
    if source.hugging_face is not None:
        found = {"huggingFace": [source.hugging_face.repo, source.hugging_face.revision]}
    return found | {"refresh": source.refresh} if source.refresh is not None else found


def revision_hash(
    task: Task,
    source: Source,
    steps: Sequence[Step],
    batching: Batching,
    runtime: TritonRuntimeSpec,
    data: Sequence[Dataset] = (),
    search: Optimization | None = None,
    accelerator: Accelerator | None = None,
    models: Sequence[Model] = (),
) -> str:
    """Eight characters that change exactly when the answers may: task, source, steps (not their names), the data and other
    models that they read, batching, the runtime's image, arguments and formats (not its resources or placement), the accelerator if not
    the CPU, and what `search` asks for if it has an `auto`."""
    form: dict[str, Any] = {
        "version": VERSION,
        "task": task,
        "source": canonical_source(source),
        "steps": [canonical_step(step) for step in steps],
        "batching": canonical(batching),
        "runtime": {k: v for k, v in canonical(runtime).items() if k in ("image", "args", "formats")},
    }
    if accelerator is not None:
        form["accelerator"] = accelerator
    auto = search.auto if search else None
    if search and auto:
        form["search"] = canonical_search(auto, search.gates, search.target.shapes)
    if used := read_datasets(steps, data, auto):
        form["data"] = [{"name": item.name, **canonical_dataset(item)} for item in used]
    if others := read_models(steps, models):
        form["models"] = [{"name": model.name, **canonical_source(model.source)} for model in others]
    return digest(form, 8)


def canonical_search(auto: Auto, gates: Sequence[Gate], shapes: Sequence[Shape]) -> dict[str, Any]:
    """What decides the outcome of a search: its settings, the bars of its floor, and the workload. Neither what the gates are
    called nor the data that they judge the winner on."""
    bars = [canonical(msgspec.structs.replace(gate, name="", data=None)) for gate in gates]
    return {"auto": canonical(auto), "floor": bars, "shapes": [canonical(shape) for shape in shapes]}


def read_datasets(steps: Sequence[Step], data: Sequence[Dataset], auto: Auto | None = None) -> tuple[Dataset, ...]:
    """The datasets that steps and the search read, in the order of the spec: they are part of what is made."""
    used = {name.partition("/")[0] for name in read_by(steps, auto)}
    return tuple(item for item in data if item.name in used)


def evaluation_hash(gates: Sequence[Gate], data: Sequence[Dataset], shapes: Sequence[Shape]) -> str:
    """Eight characters of the evidence: gates, where the data lies and how it is read, and the workload shapes."""
    form = {
        "version": VERSION,
        "gates": [canonical(gate) for gate in gates],
        "data": [{"name": item.name, **canonical_dataset(item)} for item in data],
        "shapes": [canonical(shape) for shape in shapes],
    }
    return digest(form, 8)


def job_hash(
    evaluation: str,
    *,
    source: Source,
    artifacts: Artifacts,
    data: Sequence[Dataset] = (),
    pod_template: dict[str, Any] | None = None,
    timeout: str = "",
    processes: int = 1,
    parallelism: Parallelism = "DDP",
    queue: str | None = None,
    until: str | None = None,
    models: Sequence[Model] = (),
) -> str:
    """Five characters of what a Job depends on beyond the revision: the evidence, endpoints, secret names, the store,
    the pod template, the time limit, the processes, the queue and its last step. A change starts a new Job; the
    deletion policy changes nothing."""
    form = {
        "version": VERSION,
        "evaluation": evaluation,
        "source": canonical(source),
        "store": [canonical(artifacts.s3), canonical(artifacts.pvc)],
        "data": [canonical(item) for item in data],
        "podTemplate": pod_template or {},
        "timeout": timeout,
    }
    if processes != 1:
        form["processes"] = processes
        form |= {"parallelism": parallelism} if parallelism != "DDP" else {}
    if queue is not None:
        form["queue"] = queue
    if until is not None:
        form["until"] = until
    if models:
        form["models"] = [canonical(model) for model in models]
    return digest(form, 5)
