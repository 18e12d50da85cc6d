"""Weights in groups of 8 or 4 bits, round to nearest, one scale a group; tensors between operators stay fp32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optimodel.api.steps import Quantize

from ..technique import Context
from . import groups, tables


def run(model: Any, settings: Quantize, source: Path, excluded: Sequence[str], context: Context) -> Any:
    """The model with packed weights, and small tables."""
    products = groups.of(model, settings.bits, settings.group_size, excluded)
    return tables.run(products, settings, excluded)
