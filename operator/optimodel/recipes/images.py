"""What of the recipes concerns text alone, and is refused for models that are asked about images: nothing is ignored silently."""

from __future__ import annotations

from collections.abc import Iterator

from optimodel.api.steps import Step, Training

from .problem import Problem
from .settings import VIRTUAL


def check(step: Step) -> Iterator[Problem]:
    """Every problem of a step whose settings are legal by themselves."""
    for reason, words in _findings(step):
        yield Problem(reason, f"Step {step.name!r}: {words}")


def _findings(step: Step) -> Iterator[tuple[str, str]]:
    tuned = step.fine_tune
    if tuned is not None and tuned.method in VIRTUAL:
        yield (
            "StepNotForTask",
            f"{tuned.method} learns tokens ahead of a text, and images have none. Use Full, LoRA or Head.",
        )
    if tuned is not None and tuned.adversarial is not None:
        yield "StepNotForTask", "adversarial perturbs the vectors of words, and images have none. Remove it."
    if step.prune is not None and step.prune.method == "Vocabulary":
        yield "StepNotForTask", "Prune Vocabulary drops tokens, and images have none. Use another method."
    if "Embeddings" in (*(step.qat.exclude if step.qat else ()), *(step.quantize.exclude if step.quantize else ())):
        words = (
            "`exclude` names Embeddings, the tables of tokens; the projection of patches is never quantized. Remove it."
        )
        yield "PartNotFound", words
    if any(settings is not None and settings.embedding_bits is not None for settings in (step.qat, step.quantize)):
        yield "SettingUnused", "embeddingBits are those of the tables of tokens, and images have none. Remove them."
    training = _training(step)
    if training is not None and training.max_length != Training().max_length:
        yield "SettingUnused", "training.maxLength counts tokens of a text, and images have none. Remove it."


def _training(step: Step) -> Training | None:
    """The settings of the training in a step, if there is one."""
    recover = step.prune.recover if step.prune else None
    found = (settings.training for settings in (step.fine_tune, step.distill, step.qat, recover) if settings)
    return next(found, None)
