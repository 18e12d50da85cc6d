"""What the teacher says of every text. Its answers never change, so they are asked for once where there is room to remember them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .batches import Batch, Texts
from .folders import Subject

ROOM = 512 << 20
"""Bytes of hidden states that are remembered; beyond, the teacher is asked again at every step."""
BATCH = 32


class Teacher:
    """Answers, and the hidden states of real tokens after the layers `kept` (none of them = not wanted), one matrix a layer."""

    def __init__(self, subject: Subject, kept: Sequence[int]) -> None:
        self.subject, self.kept = subject, kept
        self._answers: Any = None
        self._states: list[Any] = []

    def remember(self, texts: Texts) -> bool:
        """Ask once about every text, in an order of its own: a resumed training hears the same. Whether there was room."""
        import torch

        tokens = sum(len(ids) for ids in texts.ids)
        if tokens * int(self.subject.model.config.hidden_size) * len(self.kept) * 4 > ROOM:
            return False
        answers: Any = None
        self._states = [None] * len(texts)
        for batch in texts.in_order(BATCH):
            answer, states = self._ask(batch)
            answers = torch.zeros(len(texts), answer.shape[1]) if answers is None else answers
            answers[batch.rows] = answer
            ends = batch.mask.sum(1).cumsum(0).tolist()
            for row, start, end in zip(batch.rows.tolist(), [0, *ends], ends, strict=False):
                self._states[row] = [layer[start:end].clone() for layer in states]
        self._answers = answers
        return True

    def __call__(self, batch: Batch) -> tuple[Any, list[Any]]:
        """Answers to a batch, and a matrix (real tokens, width) for each of the layers kept."""
        import torch

        if self._answers is None:
            return self._ask(batch)
        rows = batch.rows.tolist()
        states = [torch.cat([self._states[row][place] for row in rows]) for place in range(len(self.kept))]
        return self._answers[batch.rows], states

    def _ask(self, batch: Batch) -> tuple[Any, list[Any]]:
        import torch

        with torch.no_grad():
            answer, states = self.subject.answer(batch, hidden=bool(self.kept))
            return answer, [states[index][batch.mask.bool()] for index in self.kept]
