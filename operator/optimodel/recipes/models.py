"""Names of other models: those that a step reads beside the one that it works on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from optimodel.api.sources import Model
from optimodel.api.steps import Step

from .problem import Problem


def named_by(*steps: Step) -> tuple[str, ...]:
    """The other models that steps read; each name once."""
    return tuple(dict.fromkeys(s.distill.student for s in steps if s.distill and s.distill.student is not None))


def read_models(steps: Sequence[Step], models: Sequence[Model]) -> tuple[Model, ...]:
    """Those that steps read, in the order of the spec: they are part of what is made."""
    return tuple(model for model in models if model.name in named_by(*steps))


def check(steps: Sequence[Step], models: Sequence[Model]) -> Iterator[Problem]:
    """Every problem of other models and of their names in steps."""
    names = [model.name for model in models]
    for name in sorted(name for name, times in Counter(names).items() if times > 1):
        yield Problem("DuplicateName", f"Two models are named {name!r}. Give each model a name of its own.")
    for model in models:
        if [model.hugging_face, model.s3, model.pvc].count(None) != 2:
            text = f"Model {model.name!r} of spec.models needs exactly one of huggingFace, s3 and pvc."
            yield Problem("SourceInvalid", text)
    for step in steps:
        for name in named_by(step):
            if name not in names:
                text = f"Step {step.name!r} names model {name!r}; spec.models has: {', '.join(names) or 'none'}."
                yield Problem("StepModelUnknown", f"{text} Add it or name another.")
