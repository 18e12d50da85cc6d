"""What a check says, and how decimals of a spec are read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

DECIMAL = re.compile(r"-?[0-9]{1,9}([.][0-9]{1,9})?")


@dataclass(frozen=True)
class Problem:
    """Why a recipe is refused: a CamelCase reason and a message that names the way out."""

    reason: str
    message: str


def decimal(text: str) -> Decimal | None:
    """The number that a text of the spec means, or None; written as the schema asks, so without an exponent."""
    return Decimal(text) if DECIMAL.fullmatch(text) else None
