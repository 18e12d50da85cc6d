"""What ONNX Runtime's own quantiser makes of a graph: weights in int8, and activations at run time where products read them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def of(model: Any, kind: str, excluded: Sequence[str], **options: Any) -> Any:
    """The model with its nodes of one kind (MatMul, Gather) in integers, but for those `excluded` by name."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    settings = {"op_types_to_quantize": [kind], "nodes_to_exclude": list(excluded), "weight_type": QuantType.QInt8}
    with tempfile.TemporaryDirectory() as folder:  # the library returns nothing
        out = Path(folder) / "model.onnx"
        quantize_dynamic(model, out, **settings, **options)
        return onnx.load(out)
