"""The configs of a repository's models, as plain values in the JSON form of Triton's `ModelConfig`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from ..api.contract import Tensor
from ..api.spec import GENERATING, Batching, Task
from . import generation
from .accelerators import CPU, Placement
from .tasks import SERVED


class Description(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=False):
    """`model.json` of an artifact: what the graph takes and gives, and what must be done around it."""

    version: Literal[1]
    task: Task
    inputs: tuple[str, ...]
    output: Literal["last_hidden_state", "logits"]
    max_length: int
    hidden_size: int = 0
    pooling: Literal["mean", "cls"] = "mean"
    normalize: bool = True
    labels: tuple[str, ...] = ()
    pad_token_id: int = 0
    eos_token_ids: tuple[int, ...] = ()
    """Tokens that end what is written."""
    chat: tuple[str, str] | None = None
    """What the model's chat template puts before and behind a person's first words."""


def interface(description: Description) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Inputs and outputs of the public model, without the batch dimension."""
    return (Tensor("TEXT", "BYTES", (1,)),), SERVED[description.task].answers(description)


def tokenized(description: Description) -> tuple[str, ...]:
    """What the tokenizer gives: the graph's inputs, and what the head reads beside its output."""
    return tuple(dict.fromkeys((*description.inputs, *SERVED[description.task].beside)))


def lengths(wanted: tuple[int, ...], max_length: int) -> tuple[int, ...]:
    """Padded lengths in tokens: the wanted buckets below the model's own limit, and that limit."""
    return (*sorted({b for b in wanted if 0 < b < max_length}), max_length)


def configs(model: str, description: Description, batching: Batching, placed: Placement) -> dict[str, dict[str, Any]]:
    """Model name -> config. `placed` tells where the core runs; `batching.max_batch_size` 1 means no batching."""
    batch = max(1, batching.max_batch_size)
    if description.task in GENERATING:
        return {model: _generator(model, description, batch)}
    sizes = lengths(batching.length_buckets, description.max_length)
    return {
        model: _ensemble(model, description, batch),
        f"{model}-tokenizer": _tokenizer(model, description, batch),
        f"{model}-core": _core(model, description, batch, sizes, placed),
        f"{model}-head": _head(model, description, batch),
    }


def _tensor(name: str, datatype: str, *dims: int) -> dict[str, Any]:
    return {"name": name, "dataType": datatype, "dims": list(dims)}


def _integers(names: Iterable[str]) -> list[dict[str, Any]]:
    return [_tensor(name, "TYPE_INT64", -1) for name in names]


def _graph_output(description: Description) -> dict[str, Any]:
    return _tensor(description.output, "TYPE_FP32", *SERVED[description.task].dims(description))


def _head_inputs(description: Description) -> list[dict[str, Any]]:
    return [_graph_output(description), *_integers(SERVED[description.task].beside)]


def _public(tensors: tuple[Tensor, ...]) -> list[dict[str, Any]]:
    kinds = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32", "INT64": "TYPE_INT64"}
    return [_tensor(t.name, kinds[t.datatype], *t.dims) for t in tensors]


def _base(name: str, batch: int) -> dict[str, Any]:
    return {"name": name, "maxBatchSize": batch, "versionPolicy": {"specific": {"versions": [1]}}}


def _ensemble(model: str, description: Description, batch: int) -> dict[str, Any]:
    texts, answers = interface(description)
    ids, tokens = ({name: name for name in names} for names in (description.inputs, tokenized(description)))
    head = [tensor["name"] for tensor in _head_inputs(description)]
    steps = [
        (f"{model}-tokenizer", {"TEXT": "TEXT"}, tokens),
        (f"{model}-core", ids, {description.output: description.output}),
        (f"{model}-head", {name: name for name in head}, {answer.name: answer.name for answer in answers}),
    ]
    scheduling = [{"modelName": n, "modelVersion": -1, "inputMap": i, "outputMap": o} for n, i, o in steps]
    return {
        **_base(model, batch),
        "platform": "ensemble",
        "input": _public(texts),
        "output": _public(answers),
        "ensembleScheduling": {"step": scheduling},
    }


def _generator(model: str, description: Description, batch: int) -> dict[str, Any]:
    texts, answers = interface(description)
    return {
        **_base(model, batch),
        "backend": "python",
        "input": [*_public(texts), *generation.inputs()],
        "output": _public(answers),
        "instanceGroup": CPU,
    }


def _tokenizer(model: str, description: Description, batch: int) -> dict[str, Any]:
    texts, _ = interface(description)
    return {
        **_base(f"{model}-tokenizer", batch),
        "backend": "python",
        "input": _public(texts),
        "output": _integers(tokenized(description)),
        "instanceGroup": CPU,
    }


def _head(model: str, description: Description, batch: int) -> dict[str, Any]:
    _, answers = interface(description)
    return {
        **_base(f"{model}-head", batch),
        "backend": "python",
        "input": _head_inputs(description),
        "output": _public(answers),
        "instanceGroup": CPU,
    }


def _core(
    model: str, description: Description, batch: int, sizes: tuple[int, ...], placed: Placement
) -> dict[str, Any]:
    return {
        **_base(f"{model}-core", batch),
        "backend": "onnxruntime",
        "input": _integers(description.inputs),
        "output": [_graph_output(description)],
        **placed.config(description.inputs, batch, sizes),
        **({"dynamicBatching": {}} if batch > 1 else {}),
        "modelWarmup": [_warmup(description, size) for size in sizes],
    }


def _warmup(description: Description, size: int) -> dict[str, Any]:
    inputs = {name: {"dataType": "TYPE_INT64", "dims": [size], "zeroData": True} for name in description.inputs}
    return {"name": f"length {size}", "batchSize": 1, "inputs": inputs}
