"""Look-up tables in smaller numbers: int8 with one scale a table, or 4 bits with one a group along each row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optimodel.api.steps import Quantize

from . import groups, integers


def run(model: Any, settings: Quantize, excluded: Sequence[str]) -> Any:
    """The model with its tables in `embeddingBits`, left out = `bits`. No answer depends on another row."""
    if (settings.embedding_bits or settings.bits) == 4:
        return groups.of(model, "Gather", 4, settings.group_size, excluded)
    return integers.of(model, "Gather", excluded)
