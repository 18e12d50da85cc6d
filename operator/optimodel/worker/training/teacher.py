"""What the teacher says of every row. Its answers never change, so they are asked for once where there is room to remember them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optimodel.api.spec import GENERATING

from . import devices, families
from .batches import Batch, Examples
from .folders import Subject

ROOM = 512 << 20
"""Bytes of hidden states that are remembered; beyond, the teacher is asked again at every step."""
BATCH = 32


class Teacher:
    """Answers, and the hidden states of real tokens after the layers `kept` (none of them = not wanted), one matrix a layer."""

    def __init__(self, subject: Subject, kept: Sequence[int]) -> None:
        self.subject, self.kept = subject, kept
        self._answers: list[Any] | None = None
        self._states: list[Any] = []

    def remember(self, examples: Examples) -> bool:
        """Ask once about every row, in an order of its own: a resumed training hears the same. Whether there was room."""
        if self._room(examples) > ROOM:
            return False
        answers: list[Any] = [None] * len(examples)
        self._states = [None] * len(examples)
        with devices.on_best(self.subject.model):
            for batch in examples.in_order(BATCH):
                answer, states = self._ask(batch)
                ends = batch.mask.sum(1).cumsum(0).tolist()
                parts = answer.split(list(batch.answers))
                for row, part, start, end in zip(batch.rows.tolist(), parts, [0, *ends], ends, strict=False):
                    answers[row] = part.cpu().clone()
                    self._states[row] = [layer[start:end].cpu().clone() for layer in states]
        self._answers = answers
        return True

    def _room(self, examples: Examples) -> int:
        """Bytes of all hidden states and of the answers to words or behind tokens."""
        config = self.subject.model.config
        tokens, answers = sum(examples.lengths), sum(map(len, examples.places or ()))
        scores = int(config.vocab_size if self.subject.task in GENERATING else config.num_labels)
        return 4 * (tokens * int(config.hidden_size) * len(self.kept) + answers * scores)

    def __call__(self, batch: Batch) -> tuple[Any, list[Any]]:
        """Answers to a batch, and a matrix (real tokens, width) for each of the layers kept."""
        import torch

        if self._answers is None:
            return self._ask(batch)
        rows, device = batch.rows.tolist(), batch.mask.device
        states = [torch.cat([self._states[row][place] for row in rows]).to(device) for place in range(len(self.kept))]
        return torch.cat([self._answers[row] for row in rows]).to(device), states

    def _ask(self, batch: Batch) -> tuple[Any, list[Any]]:
        import torch

        batch = batch.to(devices.best())
        self.subject.model.to(devices.best())
        with torch.no_grad():
            answer, states = self.subject.answer(batch, hidden=bool(self.kept))
            layers = families.told(self.subject.model, states, self.kept)
            return answer, [layer[batch.mask.bool()] for layer in layers]
