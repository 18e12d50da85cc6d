"""Methods that pack the weights of a product by what calibration shows it of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from optimodel.api.steps import Quantize

from ..technique import Context
from . import calibration, groups, tables
from .parts import products

ROOM = 512 << 20
"""Bytes of Hessians held at a time; where a model has more, the later ones see what rounded weights make."""

Pack = Callable[[Any, Sequence[Any], Mapping[str, Any], Any, Quantize], None]
"""Replaces the products that read one tensor by those with packed weights, given the model, the products, the initializers by
name, the Hessian of shape (inputs, inputs) and the settings."""


def run(model: Any, settings: Quantize, source: Path, excluded: Sequence[str], context: Context, pack: Pack) -> Any:
    """The model with its products packed by `pack`, and small tables. Raises `Failure`."""
    import onnx

    texts = calibration.batches(model, source, settings, context)
    weights = {value.name: value for value in model.graph.initializer}
    readers = products(model, excluded)
    model.opset_import.append(onnx.helper.make_opsetid(groups.DOMAIN, 1))
    done = 0
    for inputs in portions({name: int(weights[nodes[0].input[1]].dims[0]) for name, nodes in readers.items()}):
        found = hessians(model, inputs, texts, context)
        for name in inputs:
            context.report(10 + 60 * done // len(readers), f"rounding what reads {name}")
            pack(model, readers[name], weights, found[name], settings)
            done += 1
    return tables.run(model, settings, excluded)


def portions(widths: Mapping[str, int]) -> Iterator[list[str]]:
    """Tensors whose Hessians have room together, in their order."""
    portion: list[str] = []
    size = 0
    for name, width in widths.items():
        if portion and size + 4 * width**2 > ROOM:
            yield portion
            portion, size = [], 0
        portion.append(name)
        size += 4 * width**2
    if portion:
        yield portion


def hessians(
    model: Any, names: Sequence[str], batches: Sequence[Mapping[str, Any]], context: Context
) -> dict[str, Any]:
    """The Hessians of the squared errors of the products that read these tensors, up to a factor: sums over real tokens of
    the outer product with themselves."""
    found: dict[str, Any] = {}
    for name, rows in shown(model, names, batches, context):
        found[name] = found.get(name, 0) + rows.T @ rows
    return found


def peaks(model: Any, names: Sequence[str], batches: Sequence[Mapping[str, Any]], context: Context) -> dict[str, float]:
    """The largest magnitude of each of these tensors over real tokens."""
    found = dict.fromkeys(names, 0.0)
    for name, rows in shown(model, names, batches, context):
        found[name] = max(found[name], float(abs(rows).max()))
    return found


def shown(
    model: Any, names: Sequence[str], batches: Sequence[Mapping[str, Any]], context: Context
) -> Iterator[tuple[str, Any]]:
    """What these tensors hold for each batch, as rows (real tokens, width)."""
    import onnx

    from ...inference.answers import session

    open_model = onnx.ModelProto()
    open_model.CopyFrom(model)
    open_model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    path = context.scratch / "calibrated.onnx"
    onnx.save(open_model, path)
    running = session(path, context.threads)
    path.unlink()
    for batch in batches:
        mask: Any = batch.get("attention_mask")
        for name, values in zip(names, running.run(list(names), batch), strict=True):
            by_token = mask is not None and values.shape[:2] == mask.shape
            yield name, values[mask > 0] if by_token else values.reshape(-1, values.shape[-1])
