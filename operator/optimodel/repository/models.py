"""The configs of a repository's models, as plain values in the JSON form of Triton's `ModelConfig`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from ..api.contract import Tensor
from ..api.spec import GENERATING, Batching, Task
from . import generation
from .accelerators import CPU, Placement
from .tasks import SERVED


class Image(msgspec.Struct, frozen=True, rename="camel"):
    """How an image becomes pixel values of shape (3, height, width): resized by Pillow's filter `resample` to `resize`, which is
    (height, width), (shorter edge,) or nothing, then cropped around its centre if so, times `scale`, minus `mean`, over `std`."""

    height: int
    width: int
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: tuple[int, ...] = ()
    resample: int = 2
    crop: bool = False


class Description(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=False):
    """`model.json` of an artifact: what the graph takes and gives, and what must be done around it."""

    version: Literal[1]
    task: Task
    inputs: tuple[str, ...]
    output: Literal["last_hidden_state", "logits"]
    max_length: int = 0
    hidden_size: int = 0
    pooling: Literal["mean", "cls"] = "mean"
    normalize: bool = True
    labels: tuple[str, ...] = ()
    pad_token_id: int = 0
    eos_token_ids: tuple[int, ...] = ()
    """Tokens that end what is written."""
    chat: tuple[str, str] | None = None
    """What the model's chat template puts before and behind a person's first words."""
    image: Image | None = None
    """Where images are asked about; no text has a length or padding then."""


def interface(description: Description) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Inputs and outputs of the public model, without the batch dimension."""
    served = SERVED[description.task]
    return (served.front.input,), served.answers(description)


def encoded(description: Description) -> tuple[str, ...]:
    """What the front gives: the graph's inputs, and what the head reads beside its output."""
    return tuple(dict.fromkeys((*description.inputs, *SERVED[description.task].beside)))


def lengths(wanted: tuple[int, ...], max_length: int) -> tuple[int, ...]:
    """Padded lengths in tokens: the wanted buckets below the model's own limit, and that limit."""
    return (*sorted({b for b in wanted if 0 < b < max_length}), max_length)


def configs(model: str, description: Description, batching: Batching, placed: Placement) -> dict[str, dict[str, Any]]:
    """Model name -> config. `placed` tells where the core runs; `batching.max_batch_size` 1 means no batching."""
    batch = max(1, batching.max_batch_size)
    if description.task in GENERATING:
        return {model: _generator(model, description, batch)}
    front = front_name(model, description)
    return {
        model: _ensemble(model, front, description, batch),
        front: _front(front, description, batch),
        f"{model}-core": _core(model, description, batch, _shapes(description, batching), placed),
        f"{model}-head": _head(model, description, batch),
    }


def front_name(model: str, description: Description) -> str:
    """Name of the model before the graph."""
    return f"{model}-{SERVED[description.task].front.backend}"


def _tensor(name: str, datatype: str, *dims: int) -> dict[str, Any]:
    return {"name": name, "dataType": datatype, "dims": list(dims)}


def _tensors(description: Description, names: Iterable[str]) -> list[dict[str, Any]]:
    """Tensors between the models: pixel values, or integers for each token or word."""
    if image := description.image:
        return [_tensor(name, "TYPE_FP32", 3, image.height, image.width) for name in names]
    return [_tensor(name, "TYPE_INT64", -1) for name in names]


def _graph_output(description: Description) -> dict[str, Any]:
    return _tensor(description.output, "TYPE_FP32", *SERVED[description.task].dims(description))


def _head_inputs(description: Description) -> list[dict[str, Any]]:
    return [_graph_output(description), *_tensors(description, SERVED[description.task].beside)]


def _public(tensors: tuple[Tensor, ...]) -> list[dict[str, Any]]:
    kinds = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32", "INT64": "TYPE_INT64"}
    return [_tensor(t.name, kinds[t.datatype], *t.dims) for t in tensors]


def _base(name: str, batch: int) -> dict[str, Any]:
    return {"name": name, "maxBatchSize": batch, "versionPolicy": {"specific": {"versions": [1]}}}


def _ensemble(model: str, front: str, description: Description, batch: int) -> dict[str, Any]:
    questions, answers = interface(description)
    given, found = ({name: name for name in names} for names in (description.inputs, encoded(description)))
    head = [tensor["name"] for tensor in _head_inputs(description)]
    steps = [
        (front, {question.name: question.name for question in questions}, found),
        (f"{model}-core", given, {description.output: description.output}),
        (f"{model}-head", {name: name for name in head}, {answer.name: answer.name for answer in answers}),
    ]
    scheduling = [{"modelName": n, "modelVersion": -1, "inputMap": i, "outputMap": o} for n, i, o in steps]
    return {
        **_base(model, batch),
        "platform": "ensemble",
        "input": _public(questions),
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


def _front(name: str, description: Description, batch: int) -> dict[str, Any]:
    questions, _ = interface(description)
    return {
        **_base(name, batch),
        "backend": "python",
        "input": _public(questions),
        "output": _tensors(description, encoded(description)),
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
    model: str, description: Description, batch: int, shapes: Sequence[tuple[int, ...]], placed: Placement
) -> dict[str, Any]:
    return {
        **_base(f"{model}-core", batch),
        "backend": "onnxruntime",
        "input": _tensors(description, description.inputs),
        "output": [_graph_output(description)],
        **placed.config(description.inputs, batch, shapes),
        **({"dynamicBatching": {}} if batch > 1 else {}),
        "modelWarmup": [_warmup(description, shape) for shape in shapes],
    }


def _shapes(description: Description, batching: Batching) -> list[tuple[int, ...]]:
    """Every shape that one row of an input can have, ascending."""
    if image := description.image:
        return [(3, image.height, image.width)]
    return [(size,) for size in lengths(batching.length_buckets, description.max_length)]


def _warmup(description: Description, shape: tuple[int, ...]) -> dict[str, Any]:
    datatype = "TYPE_INT64" if description.image is None else "TYPE_FP32"
    inputs = {name: {"dataType": datatype, "dims": list(shape), "zeroData": True} for name in description.inputs}
    told = f"length {shape[0]}" if description.image is None else "image"
    return {"name": told, "batchSize": 1, "inputs": inputs}
