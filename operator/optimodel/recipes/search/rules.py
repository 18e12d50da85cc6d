"""What makes a search legal. Decided before a pod exists, like the rules of steps and gates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from optimodel.api.search import Auto
from optimodel.api.sources import Dataset
from optimodel.api.spec import GENERATING, LABELLED, Gate, Task
from optimodel.api.steps import Step

from ..data import gate_dataset, known, overlap, read_by
from ..metrics import DATA_METRICS
from ..problem import Problem
from ..rules import check as check_steps
from .space import PREFIX, Candidate, Space, prunings


def check(
    auto: Auto | None, task: Task, steps: Sequence[Step], gates: Sequence[Gate], data: Sequence[Dataset]
) -> tuple[Problem, ...]:
    """Every problem of the search; empty = legal. What `recipes.check` finds in steps and gates comes behind it: a `QAT` would be
    told there to add the very Quantize that is refused here."""
    if auto is None:
        return ()
    if task in GENERATING:
        message = f"optimization.auto has no candidates for {task}. Name the steps: an Export and a Quantize of WeightOnly or GPTQ."
        return (Problem("SearchNotForTask", message),)
    space = Space(auto, task, tuple(steps), tuple(data))
    conflicts = tuple(_steps(steps)) or tuple(_prunings(space))
    return (*conflicts, *_floor(task, gates), *_data(auto, steps, gates, data))


def _floor(task: Task, gates: Sequence[Gate]) -> Iterator[Problem]:
    """Without a bar for its answers the coarsest model would win."""
    if not any(gate.metric in DATA_METRICS for gate in gates):
        like = (
            '{name: loss, metric: Accuracy, data: …, maxDrop: "0.01"}'
            if task in LABELLED
            else '{name: alike, metric: CosineMean, data: …, min: "0.985"}'
        )
        message = f"optimization.auto has no floor: no gate bounds the answers. Add one to optimization.gates, such as {like}."
        yield Problem("FloorMissing", message)


def _steps(steps: Sequence[Step]) -> Iterator[Problem]:
    for step in steps:
        if step.type == "Quantize":
            message = (
                f"Step {step.name!r} quantizes, and optimization.auto is to find out how. Remove the one or the other."
            )
            yield Problem("SearchConflict", message)
        elif step.type == "QAT":
            message = (
                f"Step {step.name!r} trains for one way to quantize, and optimization.auto is to find out which. Remove the one or "
                "the other: with QAT, add the Quantize that it trains for."
            )
            yield Problem("SearchConflict", message)
        elif step.name.startswith(PREFIX):
            message = f"Step {step.name!r}: names that begin with {PREFIX!r} are those of the steps that auto finds. Name it otherwise."
            yield Problem("SearchConflict", message)


def _prunings(space: Space) -> Iterator[Problem]:
    """Whether each way to prune goes with the steps of the user, if those are legal by themselves."""
    legal = space.auto.train in known(space.data) and not check_steps(space.task, space.fixed, (), space.data)
    for step in prunings(space.auto) if legal else ():
        if problems := space.problems(Candidate("", (step,))):
            message = (
                f"auto.prune asks for the step {step.name!r}, which does not go with yours. Take it out of auto.prune, or remove "
                f"the step that is in its way: {problems[0].message}"
            )
            yield Problem("SearchConflict", message)


def _data(auto: Auto, steps: Sequence[Step], gates: Sequence[Gate], data: Sequence[Dataset]) -> Iterator[Problem]:
    """Training, comparing and judging each have rows of their own."""
    names = known(data)
    given = {"validation": auto.validation} | ({"train": auto.train} if auto.train is not None else {})
    for field, name in given.items():
        if name not in names:
            have = ", ".join(names) or "none"
            message = f"auto.{field} names data {name!r}; spec.data has: {have}. Add it or name another."
            yield Problem("SearchDataUnknown", message)
    if auto.prune and auto.train is None:
        message = "auto.prune needs text to prune by. Name training text in auto.train, or remove prune."
        yield Problem("SearchDataMissing", message)
    if any(name not in names for name in given.values()):
        return
    learnt = [*(n for n in read_by(steps) if n in names), *([auto.train] if auto.train is not None else [])]
    for name in dict.fromkeys(learnt):
        if overlap(name, auto.validation, data):
            yield _shared(
                f"auto.validation compares candidates on {auto.validation!r}, whose rows are learnt from as {name!r}"
            )
    for gate in gates:
        judged = gate_dataset(gate, data)
        for name in given.values() if judged in names else ():
            if overlap(name, str(judged), data):
                yield _shared(f"Gate {gate.name!r} judges on {judged!r}, whose rows the search reads as {name!r}")


def _shared(what: str) -> Problem:
    message = (
        f"{what}. Give the dataset a split of three, and name one part in the steps and auto.train, one in auto.validation and "
        "one in the gates, such as questions/train, questions/validation and questions/test."
    )
    return Problem("DataNotHeldOut", message)
