"""What makes a recipe legal. Everything here is decided before a pod exists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from optimodel.api.spec import Dataset, Gate, Step, StepType, Task

ORDER: tuple[StepType, ...] = ("Export", "Quantize")
"""The fixed order of step types; each type may appear once."""

DATA_METRICS = frozenset({"CosineMean", "CosineP5", "CosineMin", "Accuracy"})
"""Metrics that are measured on held-out text."""

HIGHER_IS_BETTER = DATA_METRICS | {"BatchInvariance"}


@dataclass(frozen=True)
class Problem:
    """Why a recipe is refused: a CamelCase reason and a message that names the way out."""

    reason: str
    message: str


def check(task: Task, steps: Sequence[Step], gates: Sequence[Gate], data: Sequence[Dataset]) -> tuple[Problem, ...]:
    """Every problem of the recipe, in the order of the spec; empty = legal."""
    return (*_steps(steps), *_datasets(data), *_gates(task, gates, data))


def gate_dataset(gate: Gate, data: Sequence[Dataset]) -> str | None:
    """The dataset a gate is measured on: the one it names, else the only one there is."""
    if gate.data is not None:
        return gate.data
    return data[0].name if len(data) == 1 else None


def _duplicates(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return sorted({name for name in names if name in seen or seen.add(name)})  # type: ignore[func-returns-value]


def _steps(steps: Sequence[Step]) -> Iterator[Problem]:
    for name in _duplicates(s.name for s in steps):
        yield Problem("DuplicateName", f"Two optimization steps are named {name!r}. Give each step a name of its own.")
    for step in steps:
        yield from _settings(step)
    types = [s.type for s in steps]
    for repeated in _duplicates(types):
        yield Problem("StepRepeated", f"Step type {repeated} appears more than once. Keep one step of each type.")
    if "Export" not in types:
        yield Problem(
            "ExportMissing", "The steps hold no Export, so nothing can be served. Add {name: export, type: Export}."
        )
    elif types != sorted(types, key=ORDER.index):
        wanted = " → ".join(t for t in ORDER if t in types)
        yield Problem("WrongOrder", f"The steps are in the order {' → '.join(types)}. Put them in the order {wanted}.")


def _settings(step: Step) -> Iterator[Problem]:
    members = {"Export": step.export, "Quantize": step.quantize}
    for kind, settings in members.items():
        if settings is not None and kind != step.type:
            yield Problem(
                "StepSettingsMismatch",
                f"Step {step.name!r} is of type {step.type} but carries settings under {kind.lower()!r}. "
                f"Move them under {step.type.lower()!r} or change the type.",
            )


def _datasets(data: Sequence[Dataset]) -> Iterator[Problem]:
    for name in _duplicates(d.name for d in data):
        yield Problem("DuplicateName", f"Two datasets are named {name!r}. Give each dataset a name of its own.")
    for item in data:
        if (item.s3 is None) == (item.pvc is None):
            yield Problem("DataSourceInvalid", f"Dataset {item.name!r} needs exactly one of s3 and pvc.")


def _gates(task: Task, gates: Sequence[Gate], data: Sequence[Dataset]) -> Iterator[Problem]:
    for name in _duplicates(g.name for g in gates):
        yield Problem("DuplicateName", f"Two gates are named {name!r}. Give each gate a name of its own.")
    for gate in gates:
        yield from _bounds(gate)
        yield from _gate_data(gate, data)
        if gate.metric == "Accuracy" and task != "TextClassification":
            yield Problem(
                "MetricNotForTask",
                f"Gate {gate.name!r} measures Accuracy, which needs a TextClassification model. "
                "Use CosineMean, CosineP5 or CosineMin.",
            )


def _gate_data(gate: Gate, data: Sequence[Dataset]) -> Iterator[Problem]:
    names = [d.name for d in data]
    if gate.data is not None and gate.data not in names:
        known = ", ".join(names) or "none"
        message = f"Gate {gate.name!r} names dataset {gate.data!r}; spec.data has: {known}. Add it or name another."
        yield Problem("GateDataUnknown", message)
    elif gate.data is None and gate.metric in DATA_METRICS and len(data) != 1:
        have = "no dataset" if not data else f"{len(data)} datasets"
        yield Problem(
            "GateDataMissing",
            f"Gate {gate.name!r} measures {gate.metric} on held-out text, but spec.data has {have}. "
            "Name one in the gate's `data`.",
        )


def _decimal(text: str) -> Decimal | None:
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def _bounds(gate: Gate) -> Iterator[Problem]:
    where = f"Gate {gate.name!r}"
    for field, text in (("min", gate.min), ("max", gate.max), ("confidence", gate.confidence)):
        if text is not None and _decimal(text) is None:
            message = f'{where}: {field} is {text!r}, which is not a decimal. Write it like "0.985".'
            yield Problem("BadDecimal", message)
    confidence = _decimal(gate.confidence)
    if confidence is not None and not Decimal("0.5") <= confidence < 1:
        yield Problem("BadDecimal", f"{where}: confidence is {gate.confidence}; it must be at least 0.5 and below 1.")
    wanted, other = ("min", "max") if gate.metric in HIGHER_IS_BETTER else ("max", "min")
    if getattr(gate, wanted) is None:
        yield Problem("GateBoundMissing", f"{where} has no bound: {gate.metric} needs `{wanted}`.")
    if getattr(gate, other) is not None:
        yield Problem("GateBoundInvalid", f"{where}: {gate.metric} is bounded by `{wanted}`; remove `{other}`.")
