"""How well two decoders expect held-out text, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from optimodel.recipes.likelihoods import Reading, Readings, agreement, mean_perplexity

from ..data.rows import Row, sample
from ..errors import Failure
from ..inference.generation import WINDOW, Writer
from .quality import Found

TOKENS = 32_768
"""Tokens of all texts that are read at most: with more, fewer texts are taken, at even distances."""


def compared(base: Writer, best: Writer, rows: Sequence[Row], name: str, done: Callable[[int], None]) -> Found:
    """How well both expect the texts of the data `name`. Raises `Failure`."""
    texts = _windows(base, rows, name)
    found = []
    for number, ids in enumerate(texts):
        (before, wanted), (after, chosen) = base.expects(ids), best.expects(ids)
        found.append(Reading(len(ids) - 1, before, after, int((wanted == chosen).sum())))
        if number % 10 == 0:
            done(number * len(rows) // len(texts))
    readings = Readings(tuple(found))
    agreed = agreement(readings, 0.95)
    worth: dict[str, Any] = {
        "samples": len(found),
        "tokens": readings.tokens,
        "window": WINDOW,
        "perplexity": mean_perplexity(readings),
        "baselinePerplexity": mean_perplexity(readings, before=True),
        "nextTokenAgreement": agreed.value if agreed else 0.0,
    }
    return {"Perplexity": readings, "PerplexityRatio": readings, "NextTokenAgreement": readings}, worth


def _windows(writer: Writer, rows: Sequence[Row], name: str) -> list[list[int]]:
    """Tokens of texts that leave something to expect, about `TOKENS` at most. Raises `Failure`."""
    texts = [ids for row in rows if len(ids := writer.window(row.text)) > 1]
    if not texts:
        message = f"No text of {name!r} has two tokens, so none is to be expected. Name data with longer texts."
        raise Failure("DataTooSmall", message)
    total = sum(map(len, texts))
    return sample(texts, max(1, len(texts) * TOKENS // total)) if total > TOKENS else texts
