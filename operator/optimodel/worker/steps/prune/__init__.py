"""`Prune`: remove what matters least, and train what is left towards the model before, if asked.

Heads, FFN, Layers and Vocabulary make the model smaller; Magnitude and TwoFour only set weights to zero.
"""

from __future__ import annotations

from pathlib import Path

from optimodel.api.steps import Prune

from ...data.rows import sample
from ...errors import Failure
from ...training import folders
from ...training.batches import Examples
from ...training.encoding import encoded
from ...training.folders import Subject
from ..technique import Context, Technique
from . import masks, structure, vocabulary
from .recover import recover

MAX_ROWS = 512
"""Rows that importance is measured on, at even distances."""


def run(settings: Prune, source: Path, out: Path, context: Context) -> None:
    """Prune, recover, and save the folder."""
    context.report(1, "loading")
    subject = folders.open_folder(source, context.task, context)
    before = folders.copy(subject)
    size = parameters(subject)
    if settings.method == "Vocabulary":
        _vocabulary(settings, subject, out, context)
    else:
        _prune(settings, subject, _sample(settings, subject, context), context)
        if settings.recover is not None:
            recover(settings.recover, subject, before, context)
    context.note("parameters", {"before": size, "after": parameters(subject)})
    context.note("sparsity", masks.sparsity(subject.model))
    context.report(92, "saving")
    folders.save(subject, out, context, tokenizer=settings.method != "Vocabulary")


def parameters(subject: Subject) -> int:
    """Parameters of the model in memory, without heads that were cut."""
    return sum(value.numel() for value in subject.model.parameters())


def _vocabulary(settings: Prune, subject: Subject, out: Path, context: Context) -> None:
    if settings.data is None:
        raise Failure("StepDataMissing", "Prune Vocabulary keeps the tokens of `data`. Name the data.")
    if settings.recover is not None:
        raise Failure(
            "RecoverNotNeeded",
            "Prune Vocabulary changes no answer on its own data: nothing can be recovered. Remove recover.",
        )
    context.report(5, "counting tokens")
    found = vocabulary.trim(subject, [row.text for row in context.data(settings.data)], out)
    context.note("vocabulary", found)


def _prune(settings: Prune, subject: Subject, texts: Examples | None, context: Context) -> None:
    keep = float(settings.keep)
    context.report(3, "measuring what matters")
    if settings.method == "Heads":
        context.note("heads", structure.heads(subject, keep, texts))
    elif settings.method == "FFN":
        context.note("neurons", structure.neurons(subject, keep, texts))
    elif settings.method == "Layers":
        context.note("layers", structure.layers(subject, keep, texts))
    elif settings.method == "Magnitude":
        masks.magnitude(subject.model, keep)
    else:
        masks.two_four(subject.model)


def _sample(settings: Prune, subject: Subject, context: Context) -> Examples | None:
    """Rows of the data, if it is named and the method asks for it."""
    if settings.data is None or settings.method in ("Magnitude", "TwoFour"):
        return None
    return encoded(subject, sample(context.data(settings.data), MAX_ROWS), settings.data)


TECHNIQUE = Technique(revision=3, tools=("torch", "transformers", "peft"), run=run)
