"""Training after pruning: what is left learns to answer as the model before did."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict

from optimodel.api.steps import Recover

from ...training import adapters, families, freezing, loop, losses
from ...training.encoding import encoded
from ...training.folders import Subject
from ...training.teacher import Teacher
from ..technique import Context
from . import masks

TEMPERATURE, HIDDEN = 2.0, 1.0
"""Of the soft loss, and weight of the hidden-state loss."""


def recover(settings: Recover, subject: Subject, before: Subject, context: Context) -> None:
    """Train all weights but the embeddings' tables, or adapters that are merged. Weights that are zero stay zero."""
    import torch

    model = subject.model
    held = masks.zeros(model)
    texts = encoded(subject, context.data(settings.data), settings.data, settings.training.max_length, labelled=False)
    kept = getattr(model, "kept_layers", range(len(families.layers(before.model))))
    teacher = Teacher(before, list(kept))
    context.report(5, "asking the model before")
    teacher.remember(texts)
    loss = losses.distillation(subject, teacher, TEMPERATURE, 1.0, HIDDEN)
    torch.manual_seed(settings.training.seed)
    freezing.embeddings(model)
    lora = settings.method == "LoRA"
    with adapters.adapters(model, settings.rank, 2 * settings.rank) if lora else nullcontext():
        model.train()
        after = (lambda: None) if lora else (lambda: masks.hold(model, held))
        outcome = loop.train(model, texts, loss, settings.training, context, after=after)
    masks.hold(model, held)
    context.note("recover", asdict(outcome) | {"rows": len(texts)})
