"""Texts become padded batches: of about one length each, in an order that a seed decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from optimodel.backends.arithmetic import first_tokens

from ..errors import Failure

Labels = Sequence[Sequence[int]]
"""For each text the numbers of its labels."""
BUCKET = 16
"""Batches whose texts are sorted by length together: larger = less padding, less chance."""


@dataclass(frozen=True)
class Batch:
    """Token ids and mask of some texts, shape (texts, tokens); `labels` of all answers where there are any, `rows` = positions in
    the data. `answering` is the mask of tokens that answer for a word, `answers` the number of answers a text."""

    ids: Any
    mask: Any
    labels: Any
    rows: Any
    answering: Any
    answers: Sequence[int]


@dataclass(frozen=True)
class Texts:
    """Tokenised texts, with their labels' numbers where a step needs them: one a text or, where `places` are given, one for each of
    these tokens. They are the first tokens of words; no other token is learnt."""

    ids: Sequence[Sequence[int]]
    pad: int
    labels: Labels | None = None
    places: Sequence[Sequence[int]] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, rows: Sequence[int]) -> Batch:
        """These rows, padded to the longest."""
        import torch

        longest = max(len(self.ids[row]) for row in rows)
        ids = torch.full((len(rows), longest), self.pad)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        answering = None if self.places is None else torch.zeros((len(rows), longest), dtype=torch.bool)
        for place, row in enumerate(rows):
            ids[place, : len(self.ids[row])] = torch.tensor(self.ids[row])
            mask[place, : len(self.ids[row])] = 1
            if self.places is not None and answering is not None:
                answering[place, self.places[row]] = True
        labels = None if self.labels is None else torch.tensor(list(chain.from_iterable(self.labels[r] for r in rows)))
        answers = [1 if self.places is None else len(self.places[row]) for row in rows]
        return Batch(ids, mask, labels, torch.tensor(list(rows)), answering, answers)

    def in_order(self, size: int) -> list[Batch]:
        """All rows, the shortest first."""
        order = sorted(range(len(self)), key=lambda row: len(self.ids[row]))
        return [self.batch(order[start : start + size]) for start in range(0, len(order), size)]

    def part(self, rows: Sequence[int]) -> Texts:
        """Some of the rows."""
        labels, places = ([values[row] for row in rows] if values else None for values in (self.labels, self.places))
        return Texts([self.ids[row] for row in rows], self.pad, labels, places)


def encode(
    tokenizer: Any,
    texts: Sequence[str],
    longest: int,
    pad: int,
    labels: Labels | None = None,
    *,
    words: bool = False,
) -> Texts:
    """Tokenise texts with special tokens, cut to `longest` tokens. With `words` each word answers, and `labels` has one for each;
    words that were cut off have no say, and texts without any are left out. Raises `Failure`."""
    options = {"truncation": True, "max_length": longest, "return_offsets_mapping": words}
    found = tokenizer(list(texts), add_special_tokens=True, **options)
    _check_tokens(found["input_ids"], texts)
    if not words:
        return Texts(found["input_ids"], pad, labels)
    firsts = [first_tokens(text, offsets) for text, offsets in zip(texts, found["offset_mapping"], strict=True)]
    if labels is not None:
        labels = [[n for n, at in zip(*pair, strict=True) if at >= 0] for pair in zip(labels, firsts, strict=True)]
    places = [[place for place in of_text if place >= 0] for of_text in firsts]
    return Texts(found["input_ids"], pad, labels, places).part([row for row, there in enumerate(places) if there])


def _check_tokens(ids: Sequence[Sequence[int]], texts: Sequence[str]) -> None:
    """Whether every text has some."""
    if not all(ids):
        text = texts[[bool(found) for found in ids].index(False)]
        message = f"The tokenizer finds no token in the text {text[:40]!r}. Remove it, or correct the tokenizer."
        raise Failure("DataInvalid", message)


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
