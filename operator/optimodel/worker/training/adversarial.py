"""Perturbation of word embeddings against the model (FGM: Miyato, Dai & Goodfellow 2017, arXiv 1605.07725)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .batches import Batch
from .folders import Subject
from .losses import Loss


class _Seen:
    """Word embeddings of the last forward pass, and what is added to those of the next."""

    def __init__(self) -> None:
        self.embeddings: Any = None
        self.perturbation: Any = None

    def __call__(self, module: Any, inputs: Any, output: Any) -> Any:
        if self.perturbation is not None:
            return output + self.perturbation
        if not output.requires_grad:  # frozen tables: their gradient is wanted all the same
            output = output.detach().requires_grad_()
        self.embeddings = output
        return output


@contextmanager
def _watching(subject: Subject) -> Iterator[_Seen]:
    seen = _Seen()
    handle = subject.model.get_input_embeddings().register_forward_hook(seen)
    try:
        yield seen
    finally:
        handle.remove()


def _worst(loss: Any, seen: _Seen, batch: Batch, epsilon: float, *, retain: bool) -> Any:
    """The perturbation of l2 norm `epsilon` x norm of the text's embeddings that raises the loss fastest."""
    import torch

    (gradient,) = torch.autograd.grad(loss, seen.embeddings, retain_graph=retain)
    mask = batch.mask.unsqueeze(-1)
    gradient, embeddings = gradient * mask, seen.embeddings.detach() * mask
    norm = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)
    size = epsilon * embeddings.flatten(1).norm(dim=1)
    return gradient * (size / norm)[:, None, None]


def hardened(subject: Subject, loss: Loss, epsilon: float, weight: float) -> Loss:
    """`loss` plus `weight` times the loss on the perturbed embeddings of the same texts. About three times the work."""

    def found(batch: Batch) -> Any:
        with _watching(subject) as seen:
            clean = loss(batch)
            seen.perturbation = _worst(clean, seen, batch, epsilon, retain=True)
            return clean + weight * loss(batch)

    return found


def accuracy(subject: Subject, batches: Sequence[Batch], loss: Loss, epsilon: float) -> tuple[float, float]:
    """Shares of texts or words that are labelled rightly: as they are, and under the perturbation."""
    import torch

    clean = attacked = total = 0
    subject.model.eval()
    for batch in batches:
        with _watching(subject) as seen:
            seen.perturbation = _worst(loss(batch), seen, batch, epsilon, retain=False)
            with torch.no_grad():
                under = subject.answer(batch)[0].argmax(-1)
        with torch.no_grad():
            plain = subject.answer(batch)[0].argmax(-1)
        clean += int((plain == batch.labels).sum())
        attacked += int((under == batch.labels).sum())
        total += len(batch.labels)
    return clean / max(1, total), attacked / max(1, total)
