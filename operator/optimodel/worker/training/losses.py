"""What a training minimises. Losses of answers are means over those of a batch: one a text, a word, or a token that follows; that of
hidden states is one over its tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from optimodel.api.spec import SCORING

from .batches import UNKNOWN, Batch
from .folders import Subject
from .teacher import Teacher

Loss = Callable[[Batch], Any]
SIMILARITY_TEMPERATURE = 0.05
"""Of the softmax over a vector's similarities to its neighbours in the batch, as in contrastive training (Gao et al. 2021)."""


def hard(subject: Subject) -> Loss:
    """Cross-entropy with the labels."""
    import torch

    return lambda batch: torch.nn.functional.cross_entropy(subject.answer(batch)[0], batch.labels)


def soft(student: Any, teacher: Any, temperature: float, weights: Any = 1.0) -> Any:
    """Kullback-Leibler divergence of softened scores, times temperature² so that its gradients keep their size
    (Hinton et al. 2015): the mean over answers, each with its weight."""
    import torch

    logs = torch.nn.functional.log_softmax
    apart = torch.nn.functional.kl_div(
        logs(student / temperature, -1), logs(teacher / temperature, -1), reduction="none", log_target=True
    )
    return (apart.sum(-1) * weights).mean() * temperature**2


def vectors(student: Any, teacher: Any) -> Any:
    """Distance of sentence vectors: 1 - cosine, and how differently each resembles its neighbours in the batch."""
    import torch

    s, t = (torch.nn.functional.normalize(x, dim=-1) for x in (student, teacher))
    direct = 1 - (s * t).sum(-1).mean()
    if len(s) == 1:
        return direct
    others = ~torch.eye(len(s), dtype=torch.bool, device=student.device)
    alike = [(x @ x.T)[others].view(len(s), -1) / SIMILARITY_TEMPERATURE for x in (s, t)]
    return direct + soft(alike[0], alike[1], 1.0)


def hidden(student: Sequence[Any], teacher: Sequence[Any], mask: Any) -> Any:
    """Mean squared error of hidden states over real tokens, in units of the teacher's mean square (after Jiao et al. 2020, who
    do not divide): 1 = nothing learnt, whatever the size of the states. The teacher's hold real tokens only."""
    import torch

    real = mask.bool()
    apart = [
        torch.nn.functional.mse_loss(s[real], t) / t.square().mean() for s, t in zip(student, teacher, strict=True)
    ]
    return sum(apart) / len(apart)


def distillation(student: Subject, teacher: Teacher | None, temperature: float, share: float, weight: float) -> Loss:
    """`share` of the soft loss, the rest on the label, for each answer that has one, and the soft loss alone for the others; and
    `weight` times the hidden-state loss between the student's layers and those that the teacher tells of. Without a teacher only
    the labels count."""
    import torch

    def found(batch: Batch) -> Any:
        answer, states = student.answer(batch, hidden=weight > 0)
        total, shares = 0.0, 1.0
        if batch.labels is not None and share < 1:
            wrong = torch.nn.functional.cross_entropy(answer, batch.labels, ignore_index=UNKNOWN, reduction="sum")
            total = (1 - share) * wrong / len(answer)
            shares = torch.where(batch.labels == UNKNOWN, 1.0, share)
        if teacher is None:
            return total
        wanted, layers = teacher(batch)
        if student.task in SCORING:
            total = total + soft(answer, wanted, temperature, shares)
        else:
            total = total + vectors(answer, wanted)
        return total + weight * hidden(states, layers, batch.mask) if weight > 0 else total

    return found
