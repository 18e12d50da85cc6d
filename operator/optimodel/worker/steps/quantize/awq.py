"""Weights in groups of 8 or 4 bits, scaled so that what strong inputs meet is rounded least (AWQ, Lin et al. 2023).

Before a matrix is rounded, each row is multiplied by a power of its input's strength, and the input is divided by it when the
model runs: the product is the same, and the error moves to inputs that matter less. The power is searched, and so is how far
each group's scale may shrink, which clips its largest weight. Groups, scales and operator are those of `groups`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optimodel.api.steps import Quantize

from ..technique import Context
from . import calibrated, groups

POWERS = tuple(step / 20 for step in range(20))
"""Of the strengths; 0 leaves the weights as they are."""
SHRINKS = tuple(1 - step / 20 for step in range(10))
"""Of a group's scale; 1 clips nothing."""


def run(model: Any, settings: Quantize, source: Path, excluded: Sequence[str], context: Context) -> Any:
    """The model with scaled, packed weights, and small tables. Raises `Failure`."""
    return calibrated.run(model, settings, source, excluded, context, _pack)


def _pack(model: Any, nodes: Sequence[Any], weights: Mapping[str, Any], hessian: Any, settings: Quantize) -> None:
    """Replace products that read one tensor by those with packed weights that read its scaled copy."""
    import numpy as np
    import onnx

    found = [onnx.numpy_helper.to_array(weights[node.input[1]]) for node in nodes]
    factors = balance(found, hessian, settings.bits, settings.group_size)
    name = nodes[0].input[0]
    divided = onnx.helper.make_node("Mul", [name, f"{name}_factors"], [f"{name}_divided"], name=f"{name}_divided")
    model.graph.node.insert(list(model.graph.node).index(nodes[0]), divided)
    model.graph.initializer.append(onnx.numpy_helper.from_array((1 / factors).astype(np.float32), divided.input[1]))
    inner = hessian / np.outer(factors, factors)
    for node, weight in zip(nodes, found, strict=True):
        integers, scales = clipped(weight * factors[:, None], inner, settings.bits, settings.group_size)
        node.input[0] = divided.output[0]
        model.graph.initializer.extend(groups.pack(node, integers, scales, settings))


def balance(weights: Sequence[Any], hessian: Any, bits: int, group: int) -> Any:
    """Factors of the inputs of these weights, positive and of shape (inputs,): the power of the inputs' strengths with which
    rounding to nearest loses least. An input that never was counts as of mean strength."""
    import numpy as np

    strengths = np.sqrt(np.diag(hessian))
    seen = strengths > 0
    strengths = np.where(seen, strengths, strengths[seen].mean() if seen.any() else 1)
    powers = [strengths**power for power in POWERS]
    candidates = [values / np.sqrt(values.max() * values.min()) for values in powers]

    def lost(factors: Any) -> float:
        inner = hessian / np.outer(factors, factors)
        wrong = [
            error(scaled, groups.grid(scaled, bits, group), bits, group)
            for scaled in (w * factors[:, None] for w in weights)
        ]
        return sum(float(np.sum(one * (inner @ one))) for one in wrong)

    return min(candidates, key=lost).astype(np.float32)


def clipped(weight: Any, hessian: Any, bits: int, group: int) -> tuple[Any, Any]:
    """Integers (inputs, outputs) and scales (groups, outputs) of a weight: of each group's scale the shrinking with which the
    group's part of the product loses least."""
    import numpy as np

    full = groups.grid(weight, bits, group)
    losses = []
    for shrink in SHRINKS:
        wrong = error(weight, full * np.float32(shrink), bits, group)
        parts = [slice(start, start + group) for start in range(0, len(weight), group)]
        losses.append([np.sum(wrong[part] * (hessian[part, part] @ wrong[part]), 0) for part in parts])
    scales = full * np.array(SHRINKS, np.float32)[np.argmin(losses, 0)]
    return groups.nearest(weight, scales, bits, group), scales


def error(weight: Any, scales: Any, bits: int, group: int) -> Any:
    """What rounding to nearest adds to each weight."""
    integers = groups.nearest(weight, scales, bits, group)
    return integers * groups.spread(scales, group, len(weight)) - weight
