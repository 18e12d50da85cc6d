"""Names of data: `DATASET` is all its rows, `DATASET/PART` a part of its split. What steps read stays apart from what gates judge on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from optimodel.api.search import Auto
from optimodel.api.sources import PVC, S3, Dataset
from optimodel.api.spec import Gate
from optimodel.api.steps import Step

from .metrics import DATA_METRICS


def place(s3: S3 | None, pvc: PVC | None) -> dict[str, Any]:
    """Where bytes lie, without the way there (credentials, endpoint, region)."""
    if s3 is not None:
        return {"s3": s3.url.rstrip("/")}
    return {"pvc": [pvc.claim_name, pvc.path.strip("/")]} if pvc is not None else {}


def known(data: Sequence[Dataset]) -> tuple[str, ...]:
    """Every name that a step or a gate may use, datasets before their parts."""
    parts = ((f"{d.name}/{p.name}" for p in d.split.parts) if d.split else () for d in data)
    return tuple(chain.from_iterable((d.name, *found) for d, found in zip(data, parts, strict=True)))


def dataset(name: str, data: Sequence[Dataset]) -> Dataset:
    """The dataset of a known name. Raises `KeyError` for a name that `known` does not hold."""
    if name not in known(data):
        raise KeyError(name)
    return next(d for d in data if d.name == name.partition("/")[0])


def part(name: str) -> str | None:
    """The part that a name means; None = all rows."""
    return name.partition("/")[2] or None


def references(step: Step) -> tuple[str, ...]:
    """The data that a step reads, in the order of its settings."""
    recover = step.prune.recover if step.prune else None
    found = (step.fine_tune, step.distill, step.prune, recover, step.qat, step.quantize)
    return tuple(dict.fromkeys(s.data for s in found if s is not None and s.data is not None))


def trains(step: Step) -> bool:
    """Whether the step runs a training loop."""
    recover = step.prune.recover if step.prune else None
    return any(hasattr(settings, "training") for settings in (step.fine_tune, step.distill, step.qat, recover))


def shards(step: Step) -> bool:
    """Whether what the step trains may lie in parts, one a process (FSDP). A perturbation needs a second pass through the model while
    the first is still open; QAT and a recovery hold weights at zero by where they lie in whole matrices."""
    return not trains(step) or step.distill is not None or bool(step.fine_tune and not step.fine_tune.adversarial)


def read_by(steps: Sequence[Step], auto: Auto | None = None) -> tuple[str, ...]:
    """The data that any of the steps, or the search for more of them, reads; each name once."""
    searched = (auto.train, auto.validation) if auto else ()
    return tuple(dict.fromkeys(n for n in chain(*map(references, steps), searched) if n is not None))


def overlap(one: str, two: str, data: Sequence[Dataset]) -> bool:
    """Whether two known names may share rows: the same place, unless they are different parts of one and the same split.

    Copies of a file in two places are two datasets: only reading them would tell.
    """
    a, b = dataset(one, data), dataset(two, data)
    if place(a.s3, a.pvc) != place(b.s3, b.pvc):
        return False
    alike = a.split == b.split and (a.text_field, a.label_field) == (b.text_field, b.label_field)
    apart = None not in (part(one), part(two)) and part(one) != part(two)
    return not (alike and apart)


def gate_dataset(gate: Gate, data: Sequence[Dataset]) -> str | None:
    """The data a gate is measured on: what it names, else the only dataset there is, if that is not split. None for a gate that
    names none and needs none."""
    if gate.data is not None or gate.metric not in DATA_METRICS:
        return gate.data
    return data[0].name if len(data) == 1 and data[0].split is None else None


def evidence(steps: Sequence[Step], gates: Sequence[Gate], data: Sequence[Dataset]) -> tuple[str, ...]:
    """What the result is measured on: the gates' data in their order, else the first that no step reads. The first of them gives
    the figures of status."""
    named = dict.fromkeys(name for gate in gates if (name := gate_dataset(gate, data)) is not None)
    if named:
        return tuple(named)
    used = read_by(steps)
    free = (n for n in known(data) if not any(overlap(n, u, data) for u in used))
    whole_or_part = (n for n in free if part(n) or dataset(n, data).split is None)
    return tuple(whole_or_part)[:1]
