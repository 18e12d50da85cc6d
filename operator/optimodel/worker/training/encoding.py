"""Rows of data become what a subject learns from, as its task reads them."""

from __future__ import annotations

from collections.abc import Sequence

from optimodel.api.spec import LABELLED

from ..rows import Row
from ..tasks import KINDS
from . import labels
from .batches import Texts, encode
from .folders import Subject


def encoded(subject: Subject, rows: Sequence[Row], data: str, max_length: int = 128, *, labelled: bool = True) -> Texts:
    """Rows as the model reads them, with the numbers of their labels where the task has labels and every row carries some, unless
    they are not wanted. Raises `Failure` for labels that the model does not know."""
    numbers = None
    if labelled and subject.task in LABELLED and all(row.labels for row in rows):
        config = subject.model.config
        numbers = labels.numbered(rows, [config.id2label[n] for n in range(config.num_labels)], data)
    longest = min(max_length, int(subject.description["maxLength"]))
    pad, texts = int(subject.description["padTokenId"]), [row.text for row in rows]
    return encode(subject.tokenizer, texts, longest, pad, numbers, words=KINDS[subject.task].words)
