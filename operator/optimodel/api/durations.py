"""Durations as people write them: `90s`, `15m`, `2h30m`."""

from __future__ import annotations

import re

_PART = re.compile(r"(\d+)([smh])")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """Seconds in a duration.

    Raises:
        ValueError: the text is not a duration.
    """
    parts = _PART.findall(text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise ValueError(f"not a duration: {text!r} (write it like 90s, 15m or 2h30m)")
    return sum(int(n) * _SECONDS[u] for n, u in parts)
