"""int8 weights; the scale of an activation is taken at run time over the whole batch, so answers depend on neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optimodel.api.steps import Quantize

from ..technique import Context
from . import integers, tables


def run(model: Any, settings: Quantize, source: Path, excluded: Sequence[str], context: Context) -> Any:
    """The model with its products of activations and weights in integers, and small tables.

    Weights of products use 7 of the 8 bits: a CPU without VNNI adds pairs of products in 16 bits and saturates at more, so the
    answers would depend on the CPU and be worse there (on a Zen 3, MiniLM-L6: smallest cosine 0.974 with 8 bits, 0.991 with 7).
    """
    products = integers.of(model, "MatMul", excluded, per_channel=settings.per_channel, reduce_range=True)
    return tables.run(products, settings, excluded)
