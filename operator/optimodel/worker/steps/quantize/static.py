"""int8 weights and activations; the scales of activations are calibrated, so answers do not depend on neighbours."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from optimodel.api.steps import Quantize

from ..technique import Context
from . import calibration, tables
from .parts import products


def run(model: Any, settings: Quantize, source: Path, excluded: Sequence[str], context: Context) -> Any:
    """The model with products of activations and weights between quantise and dequantise nodes, and small tables.

    The residual, the results of products and products of two activations (attention's scores) stay in fp32. Raises `Failure`.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    _set_apart(model, excluded)
    texts = iter(calibration.batches(model, source, settings, context))
    with tempfile.TemporaryDirectory(dir=context.scratch) as folder:
        given, out = Path(folder) / "given.onnx", Path(folder) / "model.onnx"
        onnx.save(model, given)
        quantize_static(
            given,
            out,
            SimpleNamespace(get_next=partial(next, texts, None)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=[*excluded, *_of_activations(model)],
            per_channel=settings.per_channel,
            reduce_range=True,  # as in `dynamic`
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
        )
        return tables.run(
            onnx.load(out), settings, excluded
        )  # behind it: of packed tables it cannot tell the type, and rounds nothing


def _set_apart(model: Any, excluded: Sequence[str]) -> None:
    """Let every tensor that is rounded be read by products alone: the library hands it to all its readers, such as the residual."""
    import onnx

    for name, nodes in products(model, excluded).items():
        alone = onnx.helper.make_node("Identity", [name], [f"{name}_read"], name=f"{name}_read")
        for node in nodes:
            node.input[0] = alone.output[0]
        model.graph.node.insert(list(model.graph.node).index(nodes[0]), alone)


def _of_activations(model: Any) -> list[str]:
    """Names of the products of two activations."""
    constants = {value.name for value in model.graph.initializer}
    return [n.name for n in model.graph.node if n.op_type == "MatMul" and not constants & set(n.input)]
