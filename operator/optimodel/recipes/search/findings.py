"""What a search has found so far. It lies in the store as it is here, so that a Job which was killed goes on from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from optimodel.api.contract import GateResult

from ..metrics import DATA_METRICS


class Observation(msgspec.Struct, frozen=True, tag=True, rename="camel"):
    """One trial. It ended where it had nothing more to hope for: it could not be made (Failed; `message` says why), it missed the
    floor on few texts (Screened), it missed a bar for its speed or gives no answer that is worth its time and size (Timed), or it
    went all the way (Judged).

    `gates` are the verdicts of the floor, on few texts until it is Judged. `value` is the objective and `latency` the p50 at the
    first shape, both as shares of the baseline's, lower is better. `screen` and `quality` are the first figure of the answers in
    the floor, higher is better, on few texts and on all.
    """

    candidate: str
    stage: Literal["Failed", "Screened", "Timed", "Judged"]
    seconds: float = 0.0
    steps: int = 0
    weights_bytes: int = 0
    gates: tuple[GateResult, ...] = ()
    screen: float | None = None
    quality: float | None = None
    latency: float | None = None
    value: float | None = None
    message: str = ""


class Part(msgspec.Struct, frozen=True, rename="camel"):
    """What it costs to quantize one part of the model alone: `drop` = 1 − mean cosine of the answers, and the bytes saved."""

    name: str
    drop: float
    bytes: int


class Sensitivity(msgspec.Struct, frozen=True, tag=True, rename="camel"):
    """How much each part suffers from a method."""

    method: str
    parts: tuple[Part, ...]
    seconds: float = 0.0

    @property
    def ranked(self) -> tuple[str, ...]:
        """The parts, that first which loses most for each byte it saves."""
        ordered = sorted(self.parts, key=lambda part: (-part.drop / max(1, part.bytes), part.name))
        return tuple(part.name for part in ordered)


class Timing(msgspec.Struct, frozen=True, tag=True, rename="camel"):
    """The final: candidates timed in turn with the baseline. `values` has for each the objective in every round, as a share of the
    baseline's in that round."""

    candidates: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    seconds: float = 0.0


Finding = Observation | Sensitivity | Timing


def feasible(found: Observation | None) -> bool:
    """Whether it is proved to hold the floor: every gate passed on all texts."""
    return found is not None and found.stage == "Judged" and all(v.verdict == "Pass" for v in found.gates)


def holding(findings: Sequence[Finding]) -> list[Observation]:
    """The feasible ones."""
    return [f for f in findings if isinstance(f, Observation) and feasible(f)]


def too_large(found: Observation | None) -> bool:
    """Whether it misses the floor by its size alone."""
    return {v.metric for v in _missed(found)} == {"SizeRatio"}


def coarse(found: Observation | None) -> bool:
    """Whether it misses the floor by its answers alone, so that more precision may help."""
    missed = _missed(found)
    return bool(missed) and all(of_answers(v) for v in missed)


def _missed(found: Observation | None) -> list[GateResult]:
    """The gates that it misses; on few texts those that are sure."""
    if found is None or found.stage == "Failed":
        return []
    return [v for v in found.gates if v.verdict == "Fail" or (found.stage == "Judged" and v.verdict != "Pass")]


def of_answers(verdict: GateResult) -> bool:
    """Whether the gate is about answers to texts, and not about size, speed or batches."""
    return verdict.metric.removesuffix("Drop") in DATA_METRICS


def quality(gates: Sequence[GateResult]) -> float | None:
    """The first figure of the answers, turned so that higher is better; None where none was measured."""
    for verdict in gates:
        if of_answers(verdict) and verdict.value:
            value = float(verdict.value)
            return -value if verdict.metric.endswith("Drop") else value
    return None


def cost(value: float | None) -> float:
    """A figure for which lower is better; the worst where it was not measured."""
    return math.inf if value is None else value


def merit(value: float | None) -> float:
    """A figure for which higher is better; the worst where it was not measured."""
    return -math.inf if value is None else value
