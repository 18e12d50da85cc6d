"""A recipe and what an object says beside it, resolved into the steps and gates to be run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec

from optimodel.api.spec import Gate, Optimization, RecipeSpec, Task
from optimodel.api.steps import Step

from .problem import Problem
from .rules import ORDER

REFERENCE = re.compile(r"\$\(([^()]*)\)")
"""A parameter in a text of a recipe: the whole text, or a piece of it."""


@dataclass(frozen=True)
class Resolved:
    """What is to be run. With problems, steps and gates are those of the object alone and must not be run."""

    optimization: Optimization
    problems: tuple[Problem, ...] = ()


def resolve(task: Task, own: Optimization, recipe: RecipeSpec) -> Resolved:
    """The steps and gates of `recipe` with the parameters of `own` in them; steps and gates of `own` replace those of
    their name as a whole, others join them: a step where its type belongs, a gate at the end.

    A step is replaced as a whole because the API server fills in defaults: what was written is not told from them.
    """
    problems = (*_task(task, own, recipe), *_parameters(own, recipe))
    if problems:
        return Resolved(own, problems)
    values = {p.name: p.default for p in recipe.parameters if p.default is not None} | (own.parameters or {})
    steps = msgspec.convert(_filled(recipe.steps, values), tuple[Step, ...])
    gates = msgspec.convert(_filled(recipe.gates, values), tuple[Gate, ...])
    mine = () if own.steps == Optimization().steps else own.steps
    return Resolved(
        msgspec.structs.replace(own, steps=_placed(_merged(steps, mine), len(steps)), gates=_merged(gates, own.gates))
    )


def _task(task: Task, own: Optimization, recipe: RecipeSpec) -> Iterator[Problem]:
    if recipe.tasks and task not in recipe.tasks:
        tasks = " and ".join(recipe.tasks)
        message = f"{_name(own)} is for {tasks}, and spec.task is {task}. Name another in optimization.recipeRef."
        yield Problem("RecipeNotForTask", message)


def _parameters(own: Optimization, recipe: RecipeSpec) -> Iterator[Problem]:
    known = {p.name: p for p in recipe.parameters}
    given = own.parameters or {}
    have = f"{_name(own)} has: {', '.join(known) or 'none'}."
    for name in given:
        if name not in known:
            message = f"optimization.parameters holds {name!r}; {have} Correct the name, or remove it."
            yield Problem("ParameterUnknown", message)
    for name, parameter in known.items():
        if name not in given and parameter.default is None:
            meaning = f" ({parameter.description.rstrip('.')})" if parameter.description else ""
            message = f"{_name(own)} needs parameter {name!r}{meaning}. Set it in optimization.parameters."
            yield Problem("ParameterMissing", message)
    for name in dict.fromkeys(_references(msgspec.to_builtins((recipe.steps, recipe.gates)))):
        if name not in known:
            message = f"A step or gate of the recipe says $({name}); {have} Declare it in the recipe's parameters."
            yield Problem("ParameterUndeclared", message)


def _name(own: Optimization) -> str:
    return f"{own.recipe_ref.kind} {own.recipe_ref.name}" if own.recipe_ref else "the recipe"


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from REFERENCE.findall(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _references(item)


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    """Plain data of `value` with its references replaced, once: a value that looks like a reference stays as it is."""
    plain = msgspec.to_builtins(value)

    def fill(item: Any) -> Any:
        if isinstance(item, str):
            return REFERENCE.sub(lambda found: values[found[1]], item)
        if isinstance(item, dict):
            return {key: fill(each) for key, each in item.items()}
        return [fill(each) for each in item] if isinstance(item, (list, tuple)) else item

    return fill(plain)


class _Named(Protocol):
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=_Named)


def _merged(theirs: Sequence[N], mine: Sequence[N]) -> tuple[N, ...]:
    """`theirs` in their order, each replaced by mine of its name; then the rest of mine."""
    own = {item.name: item for item in mine}
    names = {item.name for item in theirs}
    return (*(own.get(item.name, item) for item in theirs), *(item for item in mine if item.name not in names))


def _placed(steps: Sequence[Step], theirs: int) -> tuple[Step, ...]:
    """The first `theirs` steps as they stand, and each further one behind the last that may precede it."""
    found = list(steps[:theirs])
    for step in steps[theirs:]:
        before = [i for i, other in enumerate(found) if ORDER.index(other.type) <= ORDER.index(step.type)]
        found.insert(before[-1] + 1 if before else 0, step)
    return tuple(found)
