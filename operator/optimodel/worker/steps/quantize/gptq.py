"""Weights in groups of 8 or 4 bits, rounded so that they make up for each other (GPTQ, Frantar et al. 2022).

Each weight that is rounded moves those not yet rounded, so that the product changes least on the calibration's activations. Groups,
scales and operator are those of `weight_only`: only the choice of the integers differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from optimodel.api.steps import Quantize

from ..technique import Context
from . import calibration, weight_only
from .parts import products

DAMPING = 0.01
"""Share of the mean of the Hessian's diagonal that is added to it: few texts leave directions that were never seen."""
BLOCK = 32
"""Inputs whose corrections are gathered before they reach the rest: speed alone."""
ROOM = 512 << 20
"""Bytes of Hessians held at a time; where a model has more, the later ones see what rounded weights make."""


def run(model: Any, settings: Quantize, source: Path, excluded: Sequence[str], context: Context) -> Any:
    """The model with packed weights; tables as in `weight_only`. Raises `Failure`."""
    import onnx

    texts = calibration.batches(source, settings, context)
    weights = {value.name: value for value in model.graph.initializer}
    readers = products(model, excluded)
    model.opset_import.append(onnx.helper.make_opsetid(weight_only.DOMAIN, 1))
    done = 0
    for inputs in portions({name: int(weights[nodes[0].input[1]].dims[0]) for name, nodes in readers.items()}):
        found = hessians(model, inputs, texts, context)
        for name in inputs:
            context.report(10 + 60 * done // len(readers), f"rounding what reads {name}")
            _pack(model, readers[name], weights, found[name], settings)
            done += 1
    return weight_only.run(model, settings, source, excluded, context)


def _pack(model: Any, nodes: Sequence[Any], weights: Mapping[str, Any], hessian: Any, settings: Quantize) -> None:
    """Replace products that read one tensor by those with packed weights."""
    import onnx

    for node in nodes:
        weight = onnx.numpy_helper.to_array(weights[node.input[1]])
        scales = grid(weight, settings.bits, settings.group_size)
        chosen = rounded(weight, hessian, scales, settings.bits, settings.group_size)
        model.graph.initializer.extend(weight_only.pack(node, chosen, scales, settings))


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
    import onnx

    from ...answers import session

    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    path = context.scratch / "gptq.onnx"
    onnx.save(shown, path)
    running = session(path, context.threads)
    path.unlink()
    found: dict[str, Any] = {}
    for batch in batches:
        real = batch["attention_mask"].astype(bool)
        for name, values in zip(names, running.run(list(names), batch), strict=True):
            rows = values[real] if values.shape[:2] == real.shape else values.reshape(-1, values.shape[-1])
            found[name] = found.get(name, 0) + rows.T @ rows
    return found


def grid(weight: Any, bits: int, group: int) -> Any:
    """Scales of shape (groups, outputs) by the library's rule: the largest weight of a group is the lowest integer."""
    import numpy as np

    inputs, outputs = weight.shape
    groups = np.pad(weight, ((0, -inputs % group), (0, 0))).reshape(-1, group, outputs)
    high, low = groups.max(1), groups.min(1)
    return np.where(np.abs(high) > np.abs(low), high, low) / np.float32(-(2 ** (bits - 1)))


def rounded(weight: Any, hessian: Any, scales: Any, bits: int, group: int) -> Any:
    """Integers, of shape (inputs, outputs) like `weight`, that stand for it when multiplied by their group's scale.

    Inputs are rounded in descending order of the Hessian's diagonal: the strongest first, while all others can still make up
    for them.
    """
    import numpy as np

    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    order = np.argsort(-np.diag(hessian), kind="stable")
    steps = np.where(scales == 0, 1, scales)[order // group]
    factor = _factor(hessian[np.ix_(order, order)])
    left, found = weight[order], np.empty(weight.shape, np.int16)
    for start in range(0, len(left), BLOCK):
        stop = min(start + BLOCK, len(left))
        errors = np.empty((stop - start, left.shape[1]), np.float32)
        for row in range(start, stop):
            whole = np.clip(np.round(left[row] / steps[row]), low, high)
            errors[row - start] = (left[row] - whole * steps[row]) / factor[row, row]
            left[row + 1 : stop] -= np.outer(factor[row, row + 1 : stop], errors[row - start])
            found[order[row]] = whole
        left[stop:] -= factor[start:stop, stop:].T @ errors
    return found


def _factor(hessian: Any) -> Any:
    """Upper triangular U with UᵀU = the inverse of the damped Hessian; an input that never was is damped by 1."""
    import numpy as np

    diagonal = np.diag(hessian)
    damping = np.where(diagonal == 0, 1.0, DAMPING * diagonal.mean())
    inverse = np.linalg.inv(hessian.astype(np.float64) + np.diag(damping))
    return np.linalg.cholesky(inverse).T.astype(np.float32)
