"""The report of a Job: JSON for programs, one HTML page for people, and a model card, side by side in the store."""

from __future__ import annotations

from optimodel.artifacts import Store

from . import facts
from .card import card
from .document import Report
from .page import page


def leave(store: Store, key: str, report: Report) -> None:
    """Write the report under `key`, which ends in `.json`, with page and card beside it. The JSON comes last: who finds it finds
    the others."""
    stem = key.removesuffix(".json")
    store.upload(f"{stem}.html", [page(report).encode()])
    store.upload(f"{stem}.md", [card(report).encode()])
    store.write(key, report)


__all__ = ["Report", "card", "facts", "leave", "page"]
