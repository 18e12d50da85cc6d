"""Weights in bfloat16: half the file, the range of fp32 and eight of its bits. Whoever loads it computes in fp32, at its speed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optimodel.api.steps import Quantize

from ..technique import Context


def run(model: Any, settings: Quantize, source: Path, excluded: Sequence[str], context: Context) -> Any:
    """The model with matrices and tables that are read through a Cast, which the runtime does once, when it loads."""
    from onnx import TensorProto, helper, numpy_helper

    kept = {name for node in model.graph.node if node.name in excluded for name in node.input}
    casts = []
    for value in model.graph.initializer:
        if value.data_type == TensorProto.FLOAT and len(value.dims) > 1 and value.name not in kept:
            stored = numpy_helper.to_array(value).astype(helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16))
            casts.append(helper.make_node("Cast", [f"{value.name}_bf16"], [value.name], to=TensorProto.FLOAT))
            value.CopyFrom(numpy_helper.from_array(stored, casts[-1].input[0]))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model
