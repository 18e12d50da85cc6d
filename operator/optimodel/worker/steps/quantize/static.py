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
from . import calibration
from .dynamic import tables


def run(model: Any, settings: Quantize, source: Path, excluded: Sequence[str], context: Context) -> Any:
    """The model with products of activations and weights between quantise and dequantise nodes, and int8 tables.

    Products of two activations (attention's scores) stay in fp32. Raises `Failure`.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    texts = iter(calibration.batches(source, settings, context))
    with tempfile.TemporaryDirectory(dir=context.scratch) as folder:
        given, out = Path(folder) / "given.onnx", Path(folder) / "model.onnx"
        onnx.save(tables(model, excluded), given)
        quantize_static(
            given,
            out,
            SimpleNamespace(get_next=partial(next, texts, None)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=list(excluded),
            per_channel=settings.per_channel,
            reduce_range=True,  # as in `dynamic`
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"MatMulConstBOnly": True},
        )
        return onnx.load(out)
