"""`QAT`: train the model through the rounding that a later Quantize will do, towards what it answered before."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from optimodel.api.steps import QAT

from ..errors import Failure
from ..training import families, folders, freezing, loop, losses
from ..training.encoding import encoded
from ..training.folders import Subject
from ..training.rounding import parts, rounding
from ..training.teacher import Teacher
from .prune import masks
from .prune.recover import HIDDEN, TEMPERATURE
from .technique import Context, Technique


def run(settings: QAT, source: Path, out: Path, context: Context) -> None:
    """Train, and save the folder with weights that are not yet rounded."""
    context.report(1, "loading")
    before = folders.open_folder(source, context.task, context)
    subject = folders.copy(before)
    _check(settings, subject)
    _keep_zeros(subject)
    texts = encoded(subject, context.data(settings.data), settings.data, settings.training.max_length, labelled=False)
    teacher = Teacher(before, range(len(families.layers(before.model))))
    context.report(4, "asking the model before")
    teacher.remember(texts)
    loss = losses.distillation(subject, teacher, TEMPERATURE, 1.0, HIDDEN)
    freezing.embeddings(subject.model)
    subject.model.eval()
    with rounding(subject.model, settings):
        outcome = loop.train(subject.model, texts, loss, settings.training, context)
    context.note("loss", asdict(outcome))
    context.report(92, "saving")
    folders.save(subject, out, context)


def _check(settings: QAT, subject: Subject) -> None:
    """Find now what Quantize would refuse after the training."""
    known = [part for part, found in parts(subject.model).items() if found]
    if missing := sorted(set(settings.exclude) - set(known)):
        have = ", ".join(known)
        raise Failure("PartNotFound", f"`exclude` names {missing[0]}, but the model has {have}. Name one of these.")


def _keep_zeros(subject: Subject) -> None:
    """Let pruned weights stay zero: where no gradient comes AdamW moves nothing."""
    for linear, mask in zip(families.linears(subject.model), masks.zeros(subject.model), strict=True):
        if mask is not None:
            linear.weight.register_hook(partial(_without, mask))


def _without(mask: Any, gradient: Any) -> Any:
    return gradient.masked_fill(mask.to(gradient.device), 0.0)


TECHNIQUE = Technique(revision=2, tools=("torch", "transformers"), run=run)
