"""int8 weights and activations; the scales of activations are calibrated, so answers do not depend on neighbours."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from optimodel import repository
from optimodel.api.steps import Quantize
from optimodel.backends import arithmetic

from ...errors import Failure
from ..technique import Context
from .dynamic import tables

MIN_ROWS, ROWS, BATCH = 8, 256, 8
"""Calibration texts, at least and at most (taken at even distances), and how many run at once."""
LENGTHS = (16, 32, 64, 128, 256, 512)


def run(model: Any, settings: Quantize, source: Path, excluded: Sequence[str], context: Context) -> Any:
    """The model with products of activations and weights between quantise and dequantise nodes, and int8 tables.

    Products of two activations (attention's scores) stay in fp32. Raises `Failure`.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory(dir=context.scratch) as folder:
        given, out = Path(folder) / "given.onnx", Path(folder) / "model.onnx"
        onnx.save(tables(model, excluded), given)
        quantize_static(
            given,
            out,
            Batches(source, settings, context),
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


class Batches:
    """The calibration texts as the library reads them: one constant shape, since ragged ones it cannot stack."""

    def __init__(self, source: Path, settings: Quantize, context: Context) -> None:
        if settings.data is None:
            raise Failure("DataMissing", "Quantize.Static calibrates on texts. Name a dataset in `data`.")
        rows = context.data(settings.data)
        texts = [rows[i * len(rows) // ROWS].text for i in range(ROWS)] if len(rows) > ROWS else [r.text for r in rows]
        if len(texts) < MIN_ROWS:
            message = f"{settings.data!r} has {len(texts)} texts; Static calibrates on {MIN_ROWS} or more. Name data that has them."
            raise Failure("DataTooSmall", message)
        description = repository.describe(source)
        tokenizer = arithmetic.load_tokenizer(str(source / "tokenizer.json"), description.max_length)
        lengths = repository.lengths(LENGTHS, description.max_length)
        inputs = arithmetic.encode(tokenizer, texts, description.inputs, lengths, description.pad_token_id)
        self._batches: Iterator[dict[str, Any]] = iter(
            [{name: v[i : i + BATCH] for name, v in inputs.items()} for i in range(0, len(texts), BATCH)]
        )

    def get_next(self) -> dict[str, Any] | None:
        """The next batch, or None at the end."""
        return next(self._batches, None)
