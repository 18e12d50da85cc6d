"""Planted models: what each candidate would measure is known, so that what a search ends with can be judged."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from hypothesis import strategies as st

from optimodel.api.search import Auto
from optimodel.api.sources import S3, Dataset, Part, Split
from optimodel.api.spec import Gate
from optimodel.api.steps import Distill, Step
from optimodel.recipes import gates, search
from optimodel.recipes.gates import Key, Measurement
from optimodel.recipes.search import (
    Budget,
    Candidate,
    Final,
    Finding,
    Observation,
    Ranking,
    Sensitivity,
    Space,
    Timing,
)
from optimodel.recipes.search import (
    Part as PartOf,
)
from optimodel.recipes.search.noise import NOISE
from optimodel.recipes.search.space import FFN_KEEP_LESS, FULL, METHODS

VALIDATION = "q/validation"
TRAIN = "q/train"
AUTO = Auto(VALIDATION, train=TRAIN, prune=("FFN", "Vocabulary"))
PRUNINGS = ("Layers", "FFN", "Vocabulary")
QUESTIONS = Dataset(
    "q", s3=S3("s3://d/q.jsonl"), split=Split((Part("train", 60), Part("validation", 20), Part("test", 20)))
)
COPY = Dataset("copy", s3=S3("s3://d/q.jsonl"))
GRAPH = Step("graph", "Export")
SMALL = Step("small", "Distill", distill=Distill(TRAIN))
BASE_BYTES = 1_000_000
FEW, ALL = 64, 400
LEAVES = 40
"""Candidates of a whole tree at most: a search is to end by itself within an hour or so."""
PARTS = ("Embeddings", "Attention", "FFNDown")


@dataclass(frozen=True)
class Truth:
    """Of a plain method: what it loses of a cosine of 1, and the shares of the baseline's bytes and latency."""

    drop: float
    size: float
    latency: float
    error: float = 0.0
    """How far measurements of the answers lie off, as a share of their own interval."""


@dataclass(frozen=True)
class World:
    """Models as they are. Keeping part `i` in full precision takes `parts[i]` of the method's drop away and costs a tenth in size
    and latency; pruning has a truth that multiplies."""

    methods: Mapping[str, Truth]
    floor: float
    parts: tuple[float, ...] = (0.1, 0.2, 0.6)
    pruning: Truth = Truth(0.002, 0.7, 0.8)
    tables: Truth = Truth(0.5, 0.8, 1)
    """Of tables in 4 bits, which take no time: too coarse unless a test plants otherwise."""
    spread: float = 0.02
    seconds: float = 10.0
    bars: tuple[Gate, ...] = ()
    clock: float = 0.0
    """How far at most a trial's latency lies off; in the final all of a round alike, and each by a quarter of it."""
    draw: int = 0
    told: list[str] = field(default_factory=list)

    def truth(self, candidate: Candidate) -> Truth:
        """Of a candidate."""
        t = self.methods[candidate.method]
        kept = candidate.quantize.exclude if candidate.quantize else ()
        drop = t.drop * (1 - sum(self.parts[PARTS.index(part)] for part in kept))
        harsher = sum(step.prune is not None and step.prune.keep == FFN_KEEP_LESS for step in candidate.prune)
        n, more = len(candidate.prune) + harsher, 1 + 0.1 * len(kept)
        tables = self.tables if candidate.quantize and candidate.quantize.embedding_bits else Truth(0, 1, 1)
        return Truth(
            drop + n * self.pruning.drop + tables.drop,
            t.size * more * self.pruning.size**n * tables.size,
            t.latency * more * self.pruning.latency**n,
            t.error,
        )

    def off(self, *what: object) -> float:
        """A factor of noise, alike for what is alike."""
        return 1 + self.clock * random.Random(repr((self.draw, *what))).uniform(-1, 1)

    def final(self, asked: Sequence[Candidate]) -> Timing:
        """What the worker would report of them: fifteen rounds."""

        def values(c: Candidate) -> tuple[float, ...]:
            latency = self.truth(c).latency
            return tuple(latency * self.off(n) * (1 + (self.off(n, c.name) - 1) / 4) for n in range(15))

        return Timing(tuple(c.name for c in asked), tuple(map(values, asked)), self.seconds)

    def measure(self, trial: Candidate | Ranking | Final, findings: Sequence[Finding]) -> Finding:
        """What the worker would report, by its stages."""
        if isinstance(trial, Final):
            self.told.append(" against ".join(c.name for c in trial.candidates))
            return self.final(trial.candidates)
        if isinstance(trial, Ranking):
            drop = self.methods[trial.candidate.method].drop
            parts = tuple(PartOf(n, drop * s, 1000) for n, s in zip(PARTS, self.parts, strict=True))
            return Sensitivity(trial.candidate.method, parts, self.seconds)
        self.told.append(trial.name)
        t = self.truth(trial)
        found = Observation(
            trial.name, "Screened", self.seconds, trial.count, round(t.size * BASE_BYTES), self.verdicts(t, FEW, {})
        )
        found = msgspec.structs.replace(found, screen=search.quality(found.gates))
        if any(v.verdict == "Fail" for v in found.gates):
            return found
        latency = t.latency * self.off(trial.name)
        clock: dict[Key, Measurement] = {("LatencyP50Ratio", None): Measurement("Exact", (latency,))}
        found = msgspec.structs.replace(
            found, stage="Timed", gates=self.verdicts(t, FEW, clock), latency=latency, value=latency
        )
        if any(v.verdict == "Fail" for v in found.gates) or not search.unbeaten(found, findings):
            return found
        whole = self.verdicts(t, ALL, clock)
        return msgspec.structs.replace(found, stage="Judged", gates=whole, quality=search.quality(whole))

    def verdicts(self, t: Truth, rows: int, clock: Mapping[Key, Measurement]) -> tuple[gates.GateResult, ...]:
        """The floor on so many rows, measured with the error that is planted."""
        reach = 1.96 * self.spread / math.sqrt(rows)
        mean = 1 - t.drop + t.error * reach
        sample = tuple(mean + side * self.spread for side in (-1.0, 1.0) for _ in range(rows // 2))
        size: dict[Key, Measurement] = {("SizeRatio", None): Measurement("Exact", (t.size,))}
        bars = (Gate("alike", "CosineMean", min=str(self.floor)), *self.bars)
        measured: dict[Key, Measurement] = {("CosineMean", VALIDATION): Measurement("Mean", sample)}
        return gates.judge(bars, measured | size | clock, {gate.name: VALIDATION for gate in bars})

    def run(self, space: Space, budget: Budget, findings: Sequence[Finding] = ()) -> list[Finding]:
        """To the end, from these findings on."""
        found = list(findings)
        while trial := search.next_measurement(space, found, budget):
            found.append(self.measure(trial, found))
        return found


def told(found: Observation | Timing) -> str:
    """What was measured, as a world notes it."""
    return found.candidate if isinstance(found, Observation) else " against ".join(found.candidates)


def trials(findings: Sequence[Finding]) -> list[Observation]:
    return [f for f in findings if isinstance(f, Observation)]


def names_of(findings: Sequence[Finding]) -> list[str]:
    """Of the trials, in their order."""
    return [o.candidate for o in trials(findings)]


def candidates(space: Space, findings: Sequence[Finding]) -> dict[str, Candidate]:
    return {c.name: c for c in search.tree(space, findings) if isinstance(c, Candidate)}


truths = st.builds(
    Truth,
    drop=st.floats(0, 0.2),
    size=st.floats(0.1, 0.9),
    latency=st.floats(0.2, 1.5),
    error=st.floats(-0.99, 0.99),
)
worlds = st.builds(
    World,
    methods=st.fixed_dictionaries(dict.fromkeys((*METHODS["CPU"], FULL), truths)),
    floor=st.floats(0.85, 0.999).map(lambda x: round(x, 4)),
    parts=st.tuples(*[st.floats(0, 0.33)] * 3),
    pruning=truths,
    tables=st.builds(Truth, drop=st.floats(0, 0.05), size=st.floats(0.5, 1), latency=st.just(1.0)),
    seconds=st.floats(0.1, 30),
    clock=st.sampled_from([0.0, NOISE]),
    draw=st.integers(0, 99),
)
budgets = st.builds(Budget, trials=st.integers(1, 40), seconds=st.floats(1, 600))


def space_of(auto: Auto, *fixed: Step) -> Space:
    """The tree behind these steps and an Export."""
    return Space(auto, "TextClassification", (*fixed, GRAPH), (QUESTIONS, COPY))


spaces = st.builds(
    lambda given, train, seed: space_of(Auto(VALIDATION, train=train, prune=given[0], seed=seed), *given[1]),
    st.sampled_from([(PRUNINGS, ()), (PRUNINGS[:1], ()), (PRUNINGS[1:], ()), (PRUNINGS[1:], (SMALL,)), ((), (SMALL,))]),
    st.sampled_from([None, TRAIN]),
    st.integers(0, 5),
)


PLAIN = {name: Truth(0.001, 0.3, 0.9) for name in (*METHODS["CPU"], FULL)}


def world(floor: float = 0.985, *, bars: tuple[Gate, ...] = (), **changes: Truth) -> World:
    methods = PLAIN | {name.replace("_", "-"): truth for name, truth in changes.items()}
    return World(methods, floor, bars=bars)


SPACE = space_of(Auto(VALIDATION, train=TRAIN))
