"""Weights, and what products with weights read, in FP8 (E4M3, Micikevicius et al. 2022), as ONNX's own pairs of nodes.

TensorRT joins the pairs to a product in FP8 on GPUs of compute capability 8.9 and above; whoever does not computes the same in
fp32. The library scales FP8 by standard deviations, which clips an encoder's outliers: here the largest magnitude is the largest
FP8 number.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optimodel.api.steps import Quantize

from ..technique import Context
from . import calibrated, calibration
from .parts import products

LARGEST = 448.0
"""Of E4M3; what calibration did not see is cut off there."""


def run(model: Any, settings: Quantize, source: Path, excluded: Sequence[str], context: Context) -> Any:
    """The model with products in FP8: a scale a tensor for what they read, a scale an output for weights. Tables in fp16. Raises
    `Failure`."""
    texts = calibration.batches(model, source, settings, context)
    readers = products(model, excluded)
    peaks = calibrated.peaks(model, list(readers), texts, context)
    for name, nodes in readers.items():
        rounded = _activation(model, nodes[0], name, peaks[name])
        for node in nodes:
            node.input[0] = rounded
            _weight(model, node)
    _halve_tables(model, excluded)
    return _without_unused(model)


def _activation(model: Any, reader: Any, name: str, peak: float) -> str:
    """Round a tensor for its products alone: the residual reads it too. The rounded tensor's name."""
    from onnx import helper, numpy_helper

    scale = numpy_helper.from_array(_array(peak / LARGEST or 1.0), f"{name}_scale")
    model.graph.initializer.extend((scale, _stored(_array(0), f"{name}_zero")))
    reads = [scale.name, f"{name}_zero"]
    down = helper.make_node("QuantizeLinear", [name, *reads], [f"{name}_fp8"], name=f"{name}_fp8")
    up = helper.make_node("DequantizeLinear", [f"{name}_fp8", *reads], [f"{name}_rounded"], name=f"{name}_rounded")
    at = list(model.graph.node).index(reader)
    model.graph.node.insert(at, up)
    model.graph.node.insert(at, down)
    return str(up.output[0])


def _weight(model: Any, node: Any) -> None:
    """Let a product read its weight out of FP8."""
    import numpy as np
    from onnx import helper, numpy_helper

    name = node.input[1]
    node.input[1] = f"{name}_rounded"
    if any(known.name == node.input[1] for known in model.graph.node):
        return
    weight = numpy_helper.to_array(next(value for value in model.graph.initializer if value.name == name))
    scales = np.abs(weight).max(0) / np.float32(LARGEST)
    scales = np.where(scales == 0, np.float32(1), scales)
    zeros = _stored(np.zeros_like(scales), f"{name}_zeros")
    given = (_stored(weight / scales, f"{name}_fp8"), numpy_helper.from_array(scales, f"{name}_scales"), zeros)
    model.graph.initializer.extend(given)
    reads = [value.name for value in given]
    up = helper.make_node("DequantizeLinear", reads, [node.input[1]], name=node.input[1], axis=1)
    model.graph.node.insert(list(model.graph.node).index(node), up)


def _halve_tables(model: Any, excluded: Sequence[str]) -> None:
    """Look-up tables in fp16: what is looked up is cast back."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    constants = {value.name: value for value in model.graph.initializer}
    for node in list(model.graph.node):
        table = constants.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or node.name in excluded or table.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
            continue
        if table.data_type == TensorProto.FLOAT:
            table.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(table).astype(np.float16), table.name))
        found = node.output[0]
        node.output[0] = f"{found}_half"
        back = helper.make_node("Cast", [node.output[0]], [found], name=f"{found}_back", to=TensorProto.FLOAT)
        model.graph.node.insert(list(model.graph.node).index(node) + 1, back)


def _without_unused(model: Any) -> Any:
    from onnxruntime.quantization.onnx_model import ONNXModel

    found = ONNXModel(model)
    found.clean_initializers()
    return found.model


def _array(value: float) -> Any:
    import numpy as np

    return np.array(value, np.float32)


def _stored(values: Any, name: str) -> Any:
    """A tensor of FP8; `values` lie within its range."""
    from onnx import TensorProto, helper, numpy_helper

    return numpy_helper.from_array(values.astype(helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT8E4M3FN)), name)
