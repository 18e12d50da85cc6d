"""What makes a recipe legal. Everything here is decided before a pod exists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from optimodel.api.sources import Dataset
from optimodel.api.spec import GENERATING, IMAGES, LABELLED, SCORING, Gate, Target, Task
from optimodel.api.steps import Prune, Quantize, Step, StepType

from . import decoders, devices, images, settings
from .data import gate_dataset, known, overlap, read_by, references
from .metrics import COSINES, DATA_METRICS, HIGHER_IS_BETTER, LABEL_METRICS, TEXT_METRICS
from .problem import Problem, decimal

ORDER: tuple[StepType, ...] = ("FineTune", "Distill", "Prune", "QAT", "Export", "Quantize")
"""The fixed order of step types. Prune may appear once for each of its methods, the others once."""

READ_VIRTUAL: frozenset[StepType] = frozenset({"FineTune", "Distill", "Export", "Quantize"})
"""Step types that work on a model that reads virtual tokens. Distill leaves them with the teacher."""

_LABELLED, _GENERATING = (" or ".join(sorted(tasks)) for tasks in (LABELLED, GENERATING))


def check(
    task: Task, steps: Sequence[Step], gates: Sequence[Gate], data: Sequence[Dataset], target: Target | None = None
) -> tuple[Problem, ...]:
    """Every problem of the recipe, in the order of the spec; empty = legal."""
    return (
        *devices.check_target(task, target or Target()),
        *_datasets(data),
        *_steps(steps),
        *_virtual_tokens(steps),
        *(problem for step in steps for problem in _for(task, step, data, target or Target())),
        *_gates(task, gates, data),
        *_held_out(steps, gates, data),
    )


def _duplicates(names: Iterable[str]) -> list[str]:
    return sorted(name for name, times in Counter(names).items() if times > 1)


def _steps(steps: Sequence[Step]) -> Iterator[Problem]:
    for name in _duplicates(s.name for s in steps):
        yield Problem("DuplicateName", f"Two optimization steps are named {name!r}. Give each step a name of its own.")
    for step in steps:
        yield from settings.check(step)
    for repeated in _duplicates(s.type for s in steps if s.type != "Prune"):
        yield Problem("StepRepeated", f"Step type {repeated} appears more than once. Keep one step of each type.")
    for method in _duplicates((s.prune or Prune()).method for s in steps if s.type == "Prune"):
        message = f"Two Prune steps have method {method}. Keep one, and lower its `keep` to remove more."
        yield Problem("StepRepeated", message)
    types = [s.type for s in steps]
    if "Export" not in types:
        yield Problem(
            "ExportMissing", "The steps hold no Export, so nothing can be served. Add {name: export, type: Export}."
        )
    elif types != sorted(types, key=ORDER.index):
        wanted = " → ".join(sorted(types, key=ORDER.index))
        yield Problem("WrongOrder", f"The steps are in the order {' → '.join(types)}. Put them in the order {wanted}.")
    yield from _prepared(steps)


def _prepared(steps: Sequence[Step]) -> Iterator[Problem]:
    """Whether the rounding that QAT trains for is the one that follows."""
    given = {step.type: step for step in steps}
    aware, small = given.get("QAT"), given.get("Quantize")
    if aware is None or aware.qat is None:
        return
    if small is None:
        message = f"Step {aware.name!r} trains for a Quantize, and the steps hold none. Add one with the same settings."
        yield Problem("QuantizeMissing", message)
        return
    wanted, found = aware.qat, small.quantize or Quantize()
    pairs = {
        "method": (wanted.method, found.method),
        "bits": (wanted.bits, found.bits),
        "groupSize": (wanted.group_size, found.group_size),
        "exclude": (sorted(wanted.exclude), sorted(found.exclude)),
        "perChannel": (True, found.per_channel),
    }
    if wanted.embedding_bits or found.embedding_bits:
        pairs["embeddingBits"] = (wanted.embedding_bits or wanted.bits, found.embedding_bits or found.bits)
    for field, (trained, used) in pairs.items():
        if trained != used:
            yield Problem(
                "QuantizeMismatch",
                f"Step {aware.name!r} trains for {field} {trained}, and step {small.name!r} has {used}. Give both the same.",
            )


def _virtual_tokens(steps: Sequence[Step]) -> Iterator[Problem]:
    """Virtual tokens fit the weights that they were learnt for."""
    tuned = next((s for s in steps if s.fine_tune and s.fine_tune.method in settings.VIRTUAL), None)
    if tuned is None or tuned.fine_tune is None or any(step.type == "Distill" for step in steps):
        return
    for step in steps:
        if step.type not in READ_VIRTUAL:
            yield Problem(
                "VirtualTokensNotSupported",
                f"Step {step.name!r}: {step.type} changes weights that the virtual tokens of step {tuned.name!r} "
                f"({tuned.fine_tune.method}) were learnt for. Put a Distill between them, whose student reads none, or let "
                f"{tuned.name!r} use method LoRA.",
            )


def _for(task: Task, step: Step, data: Sequence[Dataset], target: Target) -> Iterator[Problem]:
    """Whether a step fits the task, the device and the data."""
    if step.type == "FineTune" and task not in SCORING:
        yield Problem(
            "StepNotForTask",
            f"Step {step.name!r}: FineTune learns labels, which a {task} model has none of. "
            f"Use task {_LABELLED}, or Distill, which learns from the model itself.",
        )
    if task in GENERATING:
        yield from decoders.check(step)
    if task in IMAGES:
        yield from images.check(step)
    yield from devices.check(step, target)
    for name in references(step):
        if name not in known(data):
            yield Problem("StepDataUnknown", f"Step {step.name!r} names data {name!r}; {_names(data)}")


def _names(data: Sequence[Dataset]) -> str:
    return f"spec.data has: {', '.join(known(data)) or 'none'}. Add it or name another."


def _datasets(data: Sequence[Dataset]) -> Iterator[Problem]:
    for name in _duplicates(d.name for d in data):
        yield Problem("DuplicateName", f"Two datasets are named {name!r}. Give each dataset a name of its own.")
    for item in data:
        if (item.s3 is None) == (item.pvc is None):
            yield Problem("DataSourceInvalid", f"Dataset {item.name!r} needs exactly one of s3 and pvc.")
        if item.split is None:
            continue
        for name in _duplicates(p.name for p in item.split.parts):
            message = f"Two parts of dataset {item.name!r} are named {name!r}. Give each part a name of its own."
            yield Problem("DuplicateName", message)
        percents = [p.percent for p in item.split.parts]
        if sum(percents) > 100 or any(p < 1 for p in percents) or not percents:
            message = (
                f"The parts of dataset {item.name!r} are {percents} percent. Give each 1 or more, at most 100 in all."
            )
            yield Problem("SplitInvalid", message)


def _gates(task: Task, gates: Sequence[Gate], data: Sequence[Dataset]) -> Iterator[Problem]:
    for name in _duplicates(g.name for g in gates):
        yield Problem("DuplicateName", f"Two gates are named {name!r}. Give each gate a name of its own.")
    for gate in gates:
        yield from _bounds(gate)
        yield from _gate_data(gate, data)
        yield from _for_task(gate, task)


def _for_task(gate: Gate, task: Task) -> Iterator[Problem]:
    """Whether a model of the task has what the gate measures."""
    mine = TEXT_METRICS if task in GENERATING else COSINES | LABEL_METRICS if task in LABELLED else COSINES
    if gate.metric not in DATA_METRICS - mine:
        return
    whose = _LABELLED if gate.metric in LABEL_METRICS else _GENERATING
    needs = (
        f"which needs a model of task {whose}" if gate.metric not in COSINES else f"which a {task} model has none of"
    )
    names = ", ".join(sorted(mine - LABEL_METRICS))
    yield Problem("MetricNotForTask", f"Gate {gate.name!r} measures {gate.metric}, {needs}. Use one of {names}.")


def _gate_data(gate: Gate, data: Sequence[Dataset]) -> Iterator[Problem]:
    if gate.data is not None and gate.data not in known(data):
        yield Problem("GateDataUnknown", f"Gate {gate.name!r} names dataset {gate.data!r}; {_names(data)}")
    elif gate.metric in DATA_METRICS and gate_dataset(gate, data) is None:
        have = f"has: {', '.join(known(data))}" if data else "has no dataset"
        yield Problem(
            "GateDataMissing",
            f"Gate {gate.name!r} measures {gate.metric} on held-out data, but spec.data {have}. "
            "Name one in the gate's `data`.",
        )


def _held_out(steps: Sequence[Step], gates: Sequence[Gate], data: Sequence[Dataset]) -> Iterator[Problem]:
    """What a step has seen proves nothing about what it made."""
    names = set(known(data))
    for gate in gates:
        judged = gate_dataset(gate, data)
        seen = [
            name for name in read_by(steps) if judged in names and name in names and overlap(name, str(judged), data)
        ]
        if seen:
            yield Problem(
                "DataNotHeldOut",
                f"Gate {gate.name!r} judges on {judged!r}, whose rows a step reads as {seen[0]!r}. Give the dataset a split, "
                "and name one part in the steps and another in the gate, such as questions/train and questions/test.",
            )


def _bounds(gate: Gate) -> Iterator[Problem]:
    where = f"Gate {gate.name!r}"
    texts = {"min": gate.min, "max": gate.max, "maxDrop": gate.max_drop, "confidence": gate.confidence}
    for field, text in texts.items():
        if text is not None and decimal(text) is None:
            message = f'{where}: {field} is {text!r}, which is not a decimal. Write it like "0.985".'
            yield Problem("BadDecimal", message)
    confidence = decimal(gate.confidence)
    if confidence is not None and not Decimal("0.5") <= confidence < 1:
        yield Problem("BadDecimal", f"{where}: confidence is {gate.confidence}; it must be at least 0.5 and below 1.")
    if gate.max_drop is not None:
        yield from _drop(gate, where)
        return
    wanted, other = ("min", "max") if gate.metric in HIGHER_IS_BETTER else ("max", "min")
    if getattr(gate, wanted) is None:
        drop = " or `maxDrop`" if gate.metric in LABEL_METRICS else ""
        yield Problem("GateBoundMissing", f"{where} has no bound: {gate.metric} needs `{wanted}`{drop}.")
    if getattr(gate, other) is not None:
        yield Problem("GateBoundInvalid", f"{where}: {gate.metric} is bounded by `{wanted}`; remove `{other}`.")


def _drop(gate: Gate, where: str) -> Iterator[Problem]:
    if gate.metric not in LABEL_METRICS:
        allowed = " and ".join(sorted(LABEL_METRICS))
        own = "min" if gate.metric in HIGHER_IS_BETTER else "max"
        message = f"{where}: `maxDrop` is for {allowed}; {gate.metric} is bounded by `{own}` alone. Use that."
        yield Problem("GateBoundInvalid", message)
    elif gate.min is not None or gate.max is not None:
        message = f"{where} has `maxDrop` and another bound, and one verdict. Make a gate of each."
        yield Problem("GateBoundInvalid", message)
