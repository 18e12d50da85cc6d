"""The texts that `data` names, as the graph reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optimodel import repository
from optimodel.api.steps import Quantize
from optimodel.backends import arithmetic
from optimodel.backends.generation import PAST

from ...errors import Failure
from ...rows import sample
from ..technique import Context

MIN_ROWS, ROWS, BATCH = 8, 256, 8
"""Calibration texts, at least and at most (taken at even distances), and how many run at once."""
LENGTHS = (16, 32, 64, 128, 256, 512)


def batches(model: Any, source: Path, settings: Quantize, context: Context) -> list[dict[str, Any]]:
    """Inputs of the graph, all padded to one length; a decoder reads one text at a time, behind an empty cache, since its layers
    are many and its vocabulary is large. Raises `Failure`."""
    import numpy as np

    if settings.data is None:
        raise Failure("DataMissing", f"Quantize.{settings.method} calibrates on texts. Name a dataset in `data`.")
    texts = [row.text for row in sample(context.data(settings.data), ROWS)]
    if len(texts) < MIN_ROWS:
        message = f"{settings.data!r} has {len(texts)} texts; {settings.method} calibrates on {MIN_ROWS} or more."
        raise Failure("DataTooSmall", f"{message} Name data that has them.")
    description = repository.describe(source)
    longest = min(description.max_length, LENGTHS[-1])
    tokenizer = arithmetic.load_tokenizer(str(source / "tokenizer.json"), longest)
    lengths = repository.lengths(LENGTHS, longest)
    inputs = arithmetic.encode(tokenizer, texts, description.inputs, lengths, description.pad_token_id)
    size = BATCH
    for tensor in model.graph.input:
        if tensor.name.startswith(PAST):
            _, heads, _, width = (dim.dim_value for dim in tensor.type.tensor_type.shape.dim)
            inputs[tensor.name] = np.zeros((len(texts), heads, 0, width), np.float32)
            size = 1
    return [{name: v[i : i + size] for name, v in inputs.items()} for i in range(0, len(texts), size)]
