"""What the settings of a step may be, each on its own and against what else the step says. Nothing is ignored silently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, get_args

from optimodel.api.steps import QAT, Adversarial, Distill, FineTune, Prune, Quantize, Recover, Step, StepType, Training

from .identity import member, step_settings
from .problem import Problem, decimal


class Range(NamedTuple):
    """Bounds of a decimal: `low` and `high` belong to it unless `open` holds."""

    low: float
    high: float
    open: bool = False

    def __str__(self) -> str:
        return f"{'above' if self.open else 'from'} {self.low:g} {'and below' if self.open else 'to'} {self.high:g}"


_BELOW_ONE = Range(0, 0.999999999)
GROUPED = ("WeightOnly", "GPTQ", "AWQ")
"""Methods of Quantize that store weights in groups."""
CALIBRATED = ("Static", "GPTQ", "AWQ", "FP8")
"""Methods of Quantize that read data."""
FLOATS = ("FP8", "Float16", "BFloat16")
"""Methods of Quantize that store floating-point numbers."""
VIRTUAL = ("PromptTuning", "PrefixTuning")
"""Methods of FineTune that learn virtual tokens."""
DECIMALS: Mapping[type, Mapping[str, Range]] = {
    Training: {"learning_rate": Range(0, 1, open=True), "warmup": _BELOW_ONE, "weight_decay": _BELOW_ONE},
    Adversarial: {"epsilon": Range(0, 100, open=True), "weight": Range(0, 100, open=True)},
    Distill: {"temperature": Range(0, 100, open=True), "soft": Range(0, 1), "hidden": Range(0, 1000)},
    Prune: {"keep": Range(0, 1, open=True)},
}
"""Decimals of the settings and their bounds."""


def check(step: Step) -> Iterator[Problem]:
    """Every problem of the settings of a step."""
    for kind in get_args(StepType):
        if kind != step.type and getattr(step, member(kind)) is not None:
            yield Problem(
                "StepSettingsMismatch",
                f"Step {step.name!r} is of type {step.type} but carries settings under {_camel(member(kind))!r}. "
                f"Move them under {_camel(member(step.type))!r} or change the type.",
            )
    if step.type in ("FineTune", "Distill", "QAT") and getattr(step, member(step.type)) is None:
        yield Problem(
            "StepDataMissing",
            f"Step {step.name!r} of type {step.type} trains, and names no data. Add {_camel(member(step.type))}: {{data: …}}.",
        )
        return
    for reason, words in _settings(step_settings(step)):
        yield Problem(reason, f"Step {step.name!r}: {words}")


Finding = tuple[str, str]
"""A reason and the rest of its message."""


def _settings(settings: object) -> Iterator[Finding]:
    yield from _decimals(settings)
    if isinstance(settings, FineTune):
        yield from _fine_tune(settings)
    elif isinstance(settings, Distill):
        yield from _distill(settings)
    elif isinstance(settings, Prune):
        yield from _prune(settings)
    elif isinstance(settings, QAT):
        yield from _groups(settings, ("WeightOnly",))
        yield from _tables(settings)
    elif isinstance(settings, Quantize):
        yield from _quantize(settings)
        yield from _groups(settings, GROUPED)
        yield from _tables(settings)


def _decimals(settings: object) -> Iterator[Finding]:
    """Decimals of the settings and of the settings inside them."""
    for field, bounds in DECIMALS.get(type(settings), {}).items():
        text = getattr(settings, field)
        value = decimal(text)
        inside = value is not None and (
            bounds.low < value < bounds.high if bounds.open else bounds.low <= value <= bounds.high
        )
        if not inside:
            yield "BadDecimal", f"{_camel(field)} is {text!r}. Write a decimal in quotes, {bounds}."
    for field in ("training", "adversarial", "recover"):
        inner = getattr(settings, field, None)
        if isinstance(inner, (Training, Adversarial, Recover)):
            yield from _decimals(inner)


def _fine_tune(settings: FineTune) -> Iterator[Finding]:
    if settings.method not in VIRTUAL and settings.virtual_tokens != FineTune("").virtual_tokens:
        yield (
            "SettingUnused",
            f"virtualTokens belong to {' and '.join(VIRTUAL)}, not {settings.method}. Remove them or use one of these.",
        )
    if settings.method != "LoRA" and (settings.rank, settings.alpha) != (8, 16):
        yield "SettingUnused", f"rank and alpha belong to method LoRA, not {settings.method}. Remove them or use LoRA."


def _distill(settings: Distill) -> Iterator[Finding]:
    if list(settings.keep_layers) != sorted(set(settings.keep_layers)):
        layers = ", ".join(map(str, settings.keep_layers))
        yield "LayersInvalid", f"keepLayers is [{layers}]. List each layer once, in ascending order, counted from 0."
    if settings.student is None:
        return
    if settings.keep_layers:
        yield "SettingUnused", "keepLayers are the teacher's, and student names another model. Remove one of the two."
    if decimal(settings.hidden):
        yield "SettingUnused", f'the hidden states of student {settings.student!r} are its own. Set hidden: "0".'


def _prune(settings: Prune) -> Iterator[Finding]:
    fixed = {"Vocabulary": "keeps the tokens of its data", "TwoFour": "keeps two weights of four"}
    if settings.method in fixed and settings.keep != "0.75":
        yield "SettingUnused", f"{settings.method} {fixed[settings.method]}. Remove keep."
    if settings.method == "Vocabulary" and settings.data is None:
        yield "StepDataMissing", "Vocabulary keeps the tokens of its data. Name data of the kind that will be served."
    if settings.method == "Layers" and settings.data is None:
        yield "StepDataMissing", "Layers measures what each layer changes on data. Name some training text in data."
    if settings.method == "Vocabulary" and settings.recover is not None:
        yield "RecoverNotNeeded", "Vocabulary changes no answer to text like its data. Remove recover."
    recover = settings.recover
    if recover is not None and recover.method != "LoRA" and recover.rank != 8:
        yield "SettingUnused", f"rank belongs to recovery by LoRA, not {recover.method}. Remove it or use LoRA."


def _quantize(settings: Quantize) -> Iterator[Finding]:
    method = settings.method
    calibrated = method in CALIBRATED
    if calibrated and settings.data is None:
        yield "StepDataMissing", f"{method} calibrates on data. Name some training text in data."
    if not calibrated and settings.data is not None:
        yield "SettingUnused", f"{', '.join(CALIBRATED)} read data, {method} does not. Remove data or use one of these."
    if method not in ("Dynamic", "Static") and not settings.per_channel:
        yield "SettingUnused", f"perChannel belongs to Dynamic and Static, not {method}. Remove it."
    if method in FLOATS and settings.embedding_bits is not None:
        message = f"embeddingBits belong to methods of integers; {method} has tables of 16 bits. Remove them."
        yield "SettingUnused", message


def _tables(settings: QAT | Quantize) -> Iterator[Finding]:
    if settings.embedding_bits is not None and "Embeddings" in settings.exclude:
        yield (
            "SettingUnused",
            "exclude keeps Embeddings whole, and embeddingBits is how many bits they get. Remove one of the two.",
        )


def _groups(settings: QAT | Quantize, methods: Sequence[str]) -> Iterator[Finding]:
    """Settings of the `methods` that store weights in groups."""
    if settings.method in methods:
        return
    names = " or ".join(methods)
    if settings.bits != 8:
        message = f"{settings.bits} bits need method {names}, not {settings.method}. Change bits or the method."
        yield "BitsNotSupported", message
    if settings.group_size != 32:
        yield (
            "SettingUnused",
            f"groupSize belongs to method {names}, not {settings.method}. Remove it or change the method.",
        )


def _camel(name: str) -> str:
    """The name of a field as the spec writes it."""
    head, *rest = name.split("_")
    return head[0].lower() + head[1:] + "".join(word.capitalize() for word in rest)
