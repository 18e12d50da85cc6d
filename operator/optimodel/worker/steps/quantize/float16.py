"""Half-precision weights. Halves the file; a CPU computes in fp32 all the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optimodel.api.steps import Quantize

from ..technique import Context


def run(model: Any, settings: Quantize, source: Path, excluded: Sequence[str], context: Context) -> Any:
    """The model in half precision; inputs and outputs keep their types."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    return convert_float_to_float16(model, keep_io_types=True, node_block_list=list(excluded))
