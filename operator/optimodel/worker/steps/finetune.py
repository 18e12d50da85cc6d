"""`FineTune`: adapt the model to labelled rows, or to how texts go on: all of it, its head, through adapters, or
through virtual tokens; against perturbed embeddings if asked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from optimodel.api.spec import LABELLED
from optimodel.api.steps import Adversarial, FineTune

from ..data.rows import Row
from ..source.checks import read_json
from ..tasks import KINDS
from ..training import adapters, adversarial, devices, families, folders, freezing, labels, loop, losses
from ..training.batches import Examples
from ..training.encoding import encoded
from ..training.folders import Subject
from .technique import Context, Technique

HELD_OUT, MAX_HELD_OUT = 10, 200
"""One row in ten, drawn by the seed, at most 200, is kept from adversarial training, to measure robustness on."""


def run(settings: FineTune, source: Path, out: Path, context: Context) -> None:
    """Train, and save the folder."""
    import torch

    rows = context.data(settings.data)
    new = _new_head(settings, source, rows, context)
    torch.manual_seed(settings.training.seed)
    context.report(1, "loading")
    subject = folders.open_folder(source, context.task, context, labels=new)
    if settings.method == "PromptTuning" or settings.method == "PrefixTuning":
        subject = folders.with_virtual_tokens(subject, settings.method, settings.virtual_tokens)
    context.report(3, "reading the rows")
    examples = encoded(subject, rows, settings.data, settings.training.max_length)
    context.note("rows", len(examples))
    if settings.adversarial is None:
        _train(settings, subject, examples, context)
    else:
        _train_hardened(settings, settings.adversarial, subject, examples, context)
    context.report(92, "saving")
    folders.save(subject, out, context)


def _new_head(settings: FineTune, source: Path, rows: Sequence[Row], context: Context) -> list[str]:
    """Labels of the head to be made: none where there are no labels, or the source has a head that this method keeps."""
    if context.task not in LABELLED:
        return []
    architectures = read_json(source / "config.json").get("architectures") or [""]
    known = labels.of(rows, settings.data)
    kept = str(architectures[0]).endswith(KINDS[context.task].architecture) and settings.method != "Head"
    return [] if kept else known


def _train(settings: FineTune, subject: Subject, examples: Examples, context: Context) -> None:
    """Train by the method; adversarially if the settings say so. A head that reads the first token alone needs the body once."""
    once = settings.adversarial is None and not KINDS[subject.task].words
    if settings.method == "Head" and once:
        outcome = _train_head(settings, subject, examples, context)
    else:
        outcome = _train_model(settings, subject, examples, context)
    context.note("loss", asdict(outcome))


def _train_model(settings: FineTune, subject: Subject, examples: Examples, context: Context) -> loop.Outcome:
    if settings.method in ("Full", "LoRA"):
        freezing.embeddings(subject.model, settings.freeze_embeddings)
    elif settings.method == "Head":
        freezing.body(subject.model)
    lora = settings.method == "LoRA"
    with adapters.adapters(subject.model, settings.rank, settings.alpha) if lora else nullcontext():
        context.note("trainableShare", freezing.share(subject.model))
        loss = losses.hard(subject)
        if settings.adversarial is not None:
            loss = adversarial.hardened(
                subject, loss, float(settings.adversarial.epsilon), float(settings.adversarial.weight)
            )
        subject.model.train(settings.method != "Head")
        return loop.train(subject.model, examples, loss, settings.training, context)


@dataclass(frozen=True)
class _Features:
    """The frozen body's last hidden states of first tokens, row by row."""

    values: Any

    def loss(self, subject: Subject) -> losses.Loss:
        import torch

        return lambda batch: torch.nn.functional.cross_entropy(
            families.head_logits(subject.model, self.values[batch.rows].to(batch.labels.device)), batch.labels
        )


def _train_head(settings: FineTune, subject: Subject, examples: Examples, context: Context) -> loop.Outcome:
    """The body answers every text once; the head then learns from what it said."""
    import torch

    freezing.body(subject.model)
    context.note("trainableShare", freezing.share(subject.model))
    values = torch.zeros(len(examples), subject.model.config.hidden_size)
    batches = examples.in_order(settings.training.batch_size)
    with torch.no_grad(), devices.on_best(subject.model):
        for number, batch in enumerate(batches):
            found = subject.model.base_model(**batch.to(devices.best()).inputs)
            values[batch.rows] = found.last_hidden_state[:, 0].cpu()
            context.report(3 + 2 * number // len(batches), "reading the rows once")
    return loop.train(subject.model, examples, _Features(values).loss(subject), settings.training, context)


def _train_hardened(
    settings: FineTune, wanted: Adversarial, subject: Subject, examples: Examples, context: Context
) -> None:
    """Train on nine tenths, and note accuracy with and without the perturbation on the rest, before and after."""
    held, rest = _held_out(examples, settings.training.seed)
    batches = held.in_order(settings.training.batch_size)
    loss, epsilon = losses.hard(subject), float(wanted.epsilon)
    before = adversarial.accuracy(subject, batches, loss, epsilon)
    _train(settings, subject, rest, context)
    after = adversarial.accuracy(subject, batches, loss, epsilon)
    figures = {
        when: {"accuracy": clean, "attacked": attacked}
        for when, (clean, attacked) in (("before", before), ("after", after))
    }
    context.note("robustness", figures | {"epsilon": epsilon, "rows": len(held)})


def _held_out(examples: Examples, seed: int) -> tuple[Examples, Examples]:
    """A tenth to measure on, and the rest to train on."""
    import torch

    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed)).tolist()
    count = min(MAX_HELD_OUT, max(1, len(examples) // HELD_OUT))
    return examples.part(sorted(order[:count])), examples.part(sorted(order[count:]))


TECHNIQUE = Technique(revision=3, tools=("torch", "transformers", "peft"), run=run)
