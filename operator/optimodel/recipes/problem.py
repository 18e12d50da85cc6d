"""What a check says, and how decimals of a spec are read."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation


@dataclass(frozen=True)
class Problem:
    """Why a recipe is refused: a CamelCase reason and a message that names the way out."""

    reason: str
    message: str


def decimal(text: str) -> Decimal | None:
    """The finite number that a text of the spec means, or None."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return value if value.is_finite() else None
