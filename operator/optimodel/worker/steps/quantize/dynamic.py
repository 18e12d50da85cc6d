"""int8 weights; the scale of an activation is taken at run time over the whole batch, so answers depend on neighbours."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optimodel.api.steps import Quantize

from ..technique import Context


def run(model: Any, settings: Quantize, source: Path, excluded: Sequence[str], context: Context) -> Any:
    """The model with its products of activations and weights in integers, and int8 tables.

    Weights of products use 7 of the 8 bits: a CPU without VNNI adds pairs of products in 16 bits and saturates at more, so the
    answers would depend on the CPU and be worse there (on a Zen 3, MiniLM-L6: smallest cosine 0.974 with 8 bits, 0.991 with 7).
    """
    products = _quantized(model, "MatMul", excluded, per_channel=settings.per_channel, reduce_range=True)
    return tables(products, excluded)


def tables(model: Any, excluded: Sequence[str]) -> Any:
    """The model with its look-up tables in int8, one scale a table."""
    return _quantized(model, "Gather", excluded)


def _quantized(model: Any, kind: str, excluded: Sequence[str], **options: Any) -> Any:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    settings = {"op_types_to_quantize": [kind], "nodes_to_exclude": list(excluded), "weight_type": QuantType.QInt8}
    with tempfile.TemporaryDirectory() as folder:  # the library returns nothing
        out = Path(folder) / "model.onnx"
        quantize_dynamic(model, out, **settings, **options)
        return onnx.load(out)
