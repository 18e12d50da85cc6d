"""Rows become batches: texts padded, of about one length each, images in pixel values; in an order that a seed decides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Self

from optimodel.backends.arithmetic import first_tokens

from ..errors import Failure

Labels = Sequence[Sequence[int]]
"""For each row the numbers of its labels."""
UNKNOWN = -100
"""In the place of a label that nobody gave."""
BUCKET = 16
"""Batches whose texts are sorted by length together: larger = less padding, less chance."""


@dataclass(frozen=True)
class Batch:
    """Some rows as the model takes them, by the names of its inputs. `mask` tells which hidden states are of real tokens, shape
    (rows, tokens); `labels` of all answers where there are any, `rows` = positions in the data. `answering` is the mask of tokens
    that answer for a word or for what follows, `answers` the number of answers a row."""

    inputs: Mapping[str, Any]
    mask: Any
    labels: Any
    rows: Any
    answering: Any
    answers: Sequence[int]

    def to(self, device: Any) -> Batch:
        """The same on a device, but for `rows`, which are looked up."""

        def there(value: Any) -> Any:
            return None if value is None else value.to(device)

        inputs = {name: there(value) for name, value in self.inputs.items()}
        return replace(
            self, inputs=inputs, mask=there(self.mask), labels=there(self.labels), answering=there(self.answering)
        )


class Examples(ABC):
    """Rows to learn from, with their labels' numbers where a step needs them: one a row or, where `places` are given, one for each
    of these tokens: the first tokens of words, whose labels are learnt, or all that another follows, which is learnt."""

    labels: Labels | None
    places: Sequence[Sequence[int]] | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    @abstractmethod
    def content(self) -> Sequence[Any]:
        """What each row says, as JSON can hold it."""

    @property
    @abstractmethod
    def lengths(self) -> Sequence[int]:
        """Tokens of each row."""

    @abstractmethod
    def part(self, rows: Sequence[int]) -> Self:
        """Some of the rows."""

    @abstractmethod
    def read(self, rows: Sequence[int]) -> tuple[dict[str, Any], Any]:
        """The model's inputs for these rows, and the mask of real tokens."""

    def answers(self, rows: Sequence[int]) -> list[int]:
        """How many answers each of these rows has."""
        return [1 if self.places is None else len(self.places[row]) for row in rows]

    def batch(self, rows: Sequence[int]) -> Batch:
        """These rows, padded to the longest."""
        import torch

        inputs, mask = self.read(rows)
        answering = None if self.places is None else torch.zeros(mask.shape, dtype=torch.bool)
        for place, row in enumerate(rows):
            if self.places is not None and answering is not None:
                answering[place, self.places[row]] = True
        labels = None if self.labels is None else torch.tensor(list(chain.from_iterable(self.labels[r] for r in rows)))
        return Batch(inputs, mask, labels, torch.tensor(list(rows)), answering, self.answers(rows))

    def in_order(self, size: int) -> list[Batch]:
        """All rows, the shortest first."""
        order = sorted(range(len(self)), key=self.lengths.__getitem__)
        return [self.batch(order[start : start + size]) for start in range(0, len(order), size)]


@dataclass(frozen=True)
class Texts(Examples):
    """Tokenised texts."""

    ids: Sequence[Sequence[int]]
    pad: int
    labels: Labels | None = None
    places: Sequence[Sequence[int]] | None = None

    @property
    def content(self) -> Sequence[Any]:
        """As `Examples.content`."""
        return self.ids

    @property
    def lengths(self) -> Sequence[int]:
        """As `Examples.lengths`."""
        return [len(ids) for ids in self.ids]

    def read(self, rows: Sequence[int]) -> tuple[dict[str, Any], Any]:
        """As `Examples.read`."""
        import torch

        longest = max(len(self.ids[row]) for row in rows)
        ids = torch.full((len(rows), longest), self.pad)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, : len(self.ids[row])] = torch.tensor(self.ids[row])
            mask[place, : len(self.ids[row])] = 1
        return {"input_ids": ids, "attention_mask": mask}, mask

    def part(self, rows: Sequence[int]) -> Texts:
        """As `Examples.part`."""
        labels, places = ([values[row] for row in rows] if values else None for values in (self.labels, self.places))
        return Texts([self.ids[row] for row in rows], self.pad, labels, places)


@dataclass(frozen=True)
class Images(Examples):
    """Files of images in base64, which are decoded batch by batch: their pixel values would not have room. `image` are the settings
    of `model.json`; each becomes as many `tokens`, patches and what the model puts ahead of them."""

    files: Sequence[str]
    image: Mapping[str, Any]
    tokens: int
    labels: Labels | None = None

    @property
    def content(self) -> Sequence[Any]:
        """As `Examples.content`."""
        return self.files

    @property
    def lengths(self) -> Sequence[int]:
        """As `Examples.lengths`."""
        return [self.tokens] * len(self.files)

    def read(self, rows: Sequence[int]) -> tuple[dict[str, Any], Any]:
        """As `Examples.read`."""
        import torch

        from optimodel.backends import pixels

        values = torch.from_numpy(pixels.encode([self.files[row] for row in rows], self.image))
        return {"pixel_values": values}, torch.ones((len(rows), self.tokens), dtype=torch.long)

    def part(self, rows: Sequence[int]) -> Images:
        """As `Examples.part`."""
        labels = [self.labels[row] for row in rows] if self.labels else None
        return Images([self.files[row] for row in rows], self.image, self.tokens, labels)


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


def following(
    tokenizer: Any, texts: Sequence[str], longest: int, pad: int, data: str, *, labelled: bool = True
) -> Texts:
    """Tokenise texts with special tokens, cut to `longest` tokens. Each token answers with the one that follows; texts of a single
    one, which leave nothing to expect, are left out. Raises `Failure`."""
    found = tokenizer(list(texts), add_special_tokens=True, truncation=True, max_length=longest)["input_ids"]
    ids = [tokens for tokens in found if len(tokens) > 1]
    if not ids:
        message = f"No text of {data!r} has two tokens, so none is to be expected. Name data with longer texts."
        raise Failure("DataTooSmall", message)
    return Texts(ids, pad, [text[1:] for text in ids] if labelled else None, [list(range(len(t) - 1)) for t in ids])


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
