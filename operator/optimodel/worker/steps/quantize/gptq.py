"""Weights in groups of 8 or 4 bits, rounded so that they make up for each other (GPTQ, Frantar et al. 2022).

Each weight that is rounded moves those not yet rounded, so that the product changes least on the calibration's activations. Groups,
scales and operator are those of `groups`: only the choice of the integers differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optimodel.api.steps import Quantize

from ..technique import Context
from . import calibrated, groups

DAMPING = 0.01
"""Share of the mean of the Hessian's diagonal that is added to it: few texts leave directions that were never seen."""
BLOCK = 32
"""Inputs whose corrections are gathered before they reach the rest: speed alone."""


def run(model: Any, settings: Quantize, source: Path, excluded: Sequence[str], context: Context) -> Any:
    """The model with packed weights, and small tables. Raises `Failure`."""
    return calibrated.run(model, settings, source, excluded, context, _pack)


def _pack(model: Any, nodes: Sequence[Any], weights: Mapping[str, Any], hessian: Any, settings: Quantize) -> None:
    """Replace products that read one tensor by those with packed weights."""
    import onnx

    for node in nodes:
        weight = onnx.numpy_helper.to_array(weights[node.input[1]])
        scales = groups.grid(weight, settings.bits, settings.group_size)
        chosen = rounded(weight, hessian, scales, settings.bits, settings.group_size)
        model.graph.initializer.extend(groups.pack(node, chosen, scales, settings))


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
