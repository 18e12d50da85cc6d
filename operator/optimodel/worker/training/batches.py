"""Texts become padded batches: of about one length each, in an order that a seed decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import Failure

BUCKET = 16
"""Batches whose texts are sorted by length together: larger = less padding, less chance."""


@dataclass(frozen=True)
class Batch:
    """Token ids and mask of some texts, shape (texts, tokens); `labels` where there are any, `rows` = positions in the data."""

    ids: Any
    mask: Any
    labels: Any
    rows: Any


@dataclass(frozen=True)
class Texts:
    """Tokenised texts, with their labels' numbers where a step needs them."""

    ids: Sequence[Sequence[int]]
    pad: int
    labels: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, rows: Sequence[int]) -> Batch:
        """These rows, padded to the longest."""
        import torch

        longest = max(len(self.ids[row]) for row in rows)
        ids = torch.full((len(rows), longest), self.pad)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, : len(self.ids[row])] = torch.tensor(self.ids[row])
            mask[place, : len(self.ids[row])] = 1
        labels = None if self.labels is None else torch.tensor([self.labels[row] for row in rows])
        return Batch(ids, mask, labels, torch.tensor(list(rows)))

    def in_order(self, size: int) -> list[Batch]:
        """All rows, the shortest first."""
        order = sorted(range(len(self)), key=lambda row: len(self.ids[row]))
        return [self.batch(order[start : start + size]) for start in range(0, len(order), size)]

    def part(self, rows: Sequence[int]) -> Texts:
        """Some of the rows."""
        labels = None if self.labels is None else [self.labels[row] for row in rows]
        return Texts([self.ids[row] for row in rows], self.pad, labels)


def encode(tokenizer: Any, texts: Sequence[str], longest: int, pad: int, labels: Sequence[int] | None = None) -> Texts:
    """Tokenise texts with special tokens, cut to `longest` tokens. Raises `Failure`."""
    ids = tokenizer(list(texts), truncation=True, max_length=longest, add_special_tokens=True)["input_ids"]
    if not all(ids):
        text = texts[[bool(found) for found in ids].index(False)]
        message = f"The tokenizer finds no token in the text {text[:40]!r}. Remove it, or correct the tokenizer."
        raise Failure("DataInvalid", message)
    return Texts(ids, pad, labels)


def shuffled(lengths: Sequence[int], size: int, seed: int, epoch: int) -> list[list[int]]:
    """The rows of an epoch's batches. Drawn from a generator of its own, so that the order depends on seed and epoch alone."""
    import torch

    chance = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(lengths), generator=chance).tolist()
    found: list[list[int]] = []
    for start in range(0, len(order), size * BUCKET):
        alike = sorted(order[start : start + size * BUCKET], key=lambda row: lengths[row])
        found += [alike[first : first + size] for first in range(0, len(alike), size)]
    return [found[place] for place in torch.randperm(len(found), generator=chance).tolist()]
