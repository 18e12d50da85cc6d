"""The rows that `data` names, as the graph reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from optimodel import repository
from optimodel.api.steps import Quantize
from optimodel.backends.generation import PAST

from ...data.rows import sample
from ...errors import Failure
from ...inference import fronts
from ..technique import Context

MIN_ROWS, ROWS, BATCH = 8, 256, 8
"""Calibration rows, at least and at most (taken at even distances), and how many run at once."""
LENGTHS = (16, 32, 64, 128, 256, 512)


def batches(model: Any, source: Path, settings: Quantize, context: Context) -> list[dict[str, Any]]:
    """Inputs of the graph, all padded to one length; a decoder reads one text at a time, behind an empty cache, since its layers
    are many and its vocabulary is large. Raises `Failure`."""
    import numpy as np

    if settings.data is None:
        raise Failure("DataMissing", f"Quantize.{settings.method} calibrates on rows. Name a dataset in `data`.")
    rows = [row.text for row in sample(context.data(settings.data), ROWS)]
    if len(rows) < MIN_ROWS:
        message = f"{settings.data!r} has {len(rows)} rows; {settings.method} calibrates on {MIN_ROWS} or more."
        raise Failure("DataTooSmall", f"{message} Name data that has them.")
    description = repository.describe(source)
    longest = min(description.max_length, LENGTHS[-1])
    inputs = fronts.of(source, msgspec.structs.replace(description, max_length=longest), LENGTHS).encode(rows)
    inputs, size = {name: inputs[name] for name in description.inputs}, BATCH
    for tensor in model.graph.input:
        if tensor.name.startswith(PAST):
            _, heads, _, width = (dim.dim_value for dim in tensor.type.tensor_type.shape.dim)
            inputs[tensor.name] = np.zeros((len(rows), heads, 0, width), np.float32)
            size = 1
    return [{name: v[i : i + size] for name, v in inputs.items()} for i in range(0, len(rows), size)]
