"""Rows of data become what a subject learns from, as its task reads them."""

from __future__ import annotations

from collections.abc import Sequence

from optimodel.api.spec import GENERATING, LABELLED

from ..data.rows import Row
from ..tasks import KINDS
from . import families, labels
from .batches import UNKNOWN, Examples, Images, encode, following
from .folders import Subject


def encoded(
    subject: Subject,
    rows: Sequence[Row],
    data: str,
    max_length: int = 128,
    *,
    labelled: bool = True,
    partly: bool = False,
) -> Examples:
    """Rows as the model reads them, with the numbers of their labels where the task has labels and every row carries some (`partly`:
    where any does, and `UNKNOWN` for the others), or with the tokens that follow where it writes, unless they are not wanted. Raises
    `Failure` for labels that the model does not know."""
    numbers, kind, described = None, KINDS[subject.task], subject.description
    if labelled and subject.task in LABELLED and (any if partly else all)(row.labels for row in rows):
        config = subject.model.config
        numbers = labels.numbered(rows, [config.id2label[n] for n in range(config.num_labels)], data)
        numbers = [
            n or [UNKNOWN] * (len(row.text.split()) if kind.words else 1) for n, row in zip(numbers, rows, strict=True)
        ]
    questions = [row.text for row in rows]
    if kind.images:
        return Images(questions, described["image"], families.positions(subject.model), numbers)
    longest, pad = min(max_length, int(described["maxLength"])), int(described["padTokenId"])
    if subject.task in GENERATING:
        return following(subject.processor, questions, longest, pad, data, labelled=labelled)
    return encode(subject.processor, questions, longest, pad, numbers, words=kind.words)
