"""What a search may try: a small tree of steps behind those of the user, grown where trials show that it is worth while."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, combinations
from typing import Literal

import msgspec

from optimodel.api.search import Auto, Objective
from optimodel.api.sources import Dataset
from optimodel.api.spec import Target, Task
from optimodel.api.steps import Distill, Prune, Quantize, Recover, Step, Training

from ..problem import Problem
from ..rules import check
from ..settings import CALIBRATED

PREFIX = "auto-"
"""Names of steps that a search adds begin so."""
FULL = "fp32"
"""The candidate that is not quantized."""
METHODS: Mapping[str, Mapping[str, Quantize]] = {
    "CPU": {
        "dynamic-int8": Quantize("Dynamic"),
        "static-int8": Quantize("Static"),
        "weights-int8": Quantize("WeightOnly"),
        "weights-int4": Quantize("WeightOnly", bits=4),
        "gptq-int4": Quantize("GPTQ", bits=4),
        "awq-int4": Quantize("AWQ", bits=4),
        "float16": Quantize("Float16"),
        "bfloat16": Quantize("BFloat16"),
    }
}
"""By device, how a graph can be quantized for it."""
INSTEAD: Mapping[str, str] = {"weights-int4": "gptq-int4", "gptq-int4": "awq-int4", "float16": "bfloat16"}
"""What is as small as a method and no faster, but answers otherwise: worth a trial only where that method falls short."""
PROMISING: Mapping[Objective, frozenset[str]] = {
    "Latency": frozenset({"dynamic-int8", "static-int8"}),
    "Throughput": frozenset({"dynamic-int8", "static-int8"}),
    "Size": frozenset({"weights-int4"}),
    "Cost": frozenset({"dynamic-int8", "static-int8", "weights-int4"}),
}
"""Tried before the others: weights alone in fewer bits save bytes, not time (docs/techniques/quantize.md)."""
SMALL: Literal[4] = 4
"""Bits of tables that are tried to be made smaller still."""
SOFT = "0.9"
TEACHING = Training(epochs=12, learning_rate="0.0003")
"""Every other layer stays, and is taught by the model before: many epochs, since each is cheap (docs/benchmarks.md)."""
FFN_KEEP, FFN_KEEP_LESS = "0.5", "0.25"
RECOVERY = Training(epochs=12, learning_rate="0.0002")
"""Half of the feed-forward neurons stay, or a quarter where half hold the floor, and are trained towards the model before."""


@dataclass(frozen=True)
class Candidate:
    """Steps behind those of the user. `prune` comes before the user's Export, `quantize` after it. `method` is a key of `METHODS`,
    or `FULL`."""

    method: str
    prune: tuple[Step, ...] = ()
    quantize: Quantize | None = None

    @property
    def name(self) -> str:
        """For people, and unique in a search."""
        pruned = (
            f"{step.prune.method if step.prune else 'Layers'} pruned{' more' if _is_harsher(step) else ''}, "
            for step in self.prune
        )
        kept = f" except {', '.join(self.quantize.exclude)}" if self.quantize and self.quantize.exclude else ""
        tables = (
            f", tables in {self.quantize.embedding_bits} bits" if self.quantize and self.quantize.embedding_bits else ""
        )
        return "".join((*pruned, self.method, kept, tables))

    def steps(self, fixed: Sequence[Step]) -> tuple[Step, ...]:
        """All steps, from the user's own, of which the last is the Export."""
        added = (Step(f"{PREFIX}quantize", "Quantize", quantize=self.quantize),) if self.quantize else ()
        return (*fixed[:-1], *self.prune, fixed[-1], *added)

    @property
    def count(self) -> int:
        """Steps that it adds."""
        return len(self.prune) + (self.quantize is not None)


@dataclass(frozen=True)
class Space:
    """The tree of one search: behind the `fixed` steps of the user, of which the last is the Export, what the rules of steps allow
    for the task and the target."""

    auto: Auto
    task: Task
    fixed: tuple[Step, ...]
    data: tuple[Dataset, ...]
    target: Target = field(default_factory=Target)

    @cached_property
    def leaves(self) -> tuple[Candidate, ...]:
        """Every method plain, but for those that only stand in for another: those that promise most first, each half in an order
        drawn by the seed; at the end the graph as it is, if the user's own steps made it smaller than the baseline."""
        chance = random.Random(self.auto.seed)
        names = [name for name in METHODS[self.target.device] if name not in INSTEAD.values()]
        chance.shuffle(names)
        names.sort(key=lambda name: name not in PROMISING[self.auto.objective])
        found = (candidate for name in names if (candidate := self._plain(name)))
        compressed = any(step.type in ("Distill", "Prune") for step in self.fixed)
        return (*found, *([Candidate(FULL)] if compressed else ()))

    def line(self, leaf: Candidate) -> Iterator[Candidate]:
        """A leaf, then what stands in for it, then what stands in for that."""
        found: Candidate | None = leaf
        while found is not None:
            yield found
            name = INSTEAD.get(found.method)
            found = self._plain(name) if name else None

    def _plain(self, name: str) -> Candidate | None:
        """A method, if it is legal here and has the data that it calibrates on."""
        settings = METHODS[self.target.device][name]
        if settings.method in CALIBRATED:
            settings = msgspec.structs.replace(settings, data=self.auto.train)
        candidate = Candidate(name, quantize=settings)
        return None if self.problems(candidate) else candidate

    def with_small_tables(self, candidate: Candidate) -> Candidate | None:
        """The same with its tables in 4 bits, where it has any of more: as fast, since tables are only looked up."""
        settings = candidate.quantize
        if settings is None or settings.bits == SMALL:
            return None
        found = replace(candidate, quantize=msgspec.structs.replace(settings, embedding_bits=SMALL))
        return None if self.problems(found) else found

    def problems(self, candidate: Candidate) -> tuple[Problem, ...]:
        """Why the rules of steps refuse it; empty = legal."""
        return check(self.task, candidate.steps(self.fixed), (), self.data, self.target)

    @cached_property
    def prunings(self) -> tuple[tuple[Step, ...], ...]:
        """Ways to prune, each method at most once and no way left out: what begins with the same steps together, since it shares
        them, and the shorter first. So neurons go from a student of half the layers before they go from the whole model, where
        that takes longest."""
        steps = tuple(chain.from_iterable((step, *_harsher(step)) for step in prunings(self.auto)))
        ways = chain.from_iterable(combinations(range(len(steps)), n) for n in range(1, len(steps) + 1))
        found = (tuple(steps[i] for i in way) for way in sorted(ways))
        return tuple(way for way in found if len({step.name for step in way}) == len(way))


def prunings(auto: Auto | None) -> Iterator[Step]:
    """Each way to prune that `auto.prune` names, in the order of steps. Without training text there is none."""
    if auto is None or auto.train is None:
        return
    train, training = auto.train, msgspec.structs.replace(RECOVERY, seed=auto.seed)
    if "Layers" in auto.prune:
        teaching = msgspec.structs.replace(TEACHING, seed=auto.seed)
        yield Step(f"{PREFIX}layers", "Distill", distill=Distill(train, soft=SOFT, training=teaching))
    if "FFN" in auto.prune:
        yield Step(f"{PREFIX}ffn", "Prune", prune=Prune("FFN", FFN_KEEP, train, Recover(train, training=training)))
    if "Vocabulary" in auto.prune:
        yield Step(f"{PREFIX}vocabulary", "Prune", prune=Prune("Vocabulary", data=train))


def gentler(way: Sequence[Step]) -> tuple[Step, ...]:
    """The same way to prune where less goes; itself if there is none."""
    return tuple(_keeping(step, FFN_KEEP) if _is_harsher(step) else step for step in way)


def _harsher(step: Step) -> Iterator[Step]:
    """The same pruning where more goes, if there is one."""
    if step.prune is not None and step.prune.method == "FFN":
        yield _keeping(step, FFN_KEEP_LESS)


def _is_harsher(step: Step) -> bool:
    return step.prune is not None and step.prune.keep == FFN_KEEP_LESS


def _keeping(step: Step, keep: str) -> Step:
    assert step.prune is not None
    return msgspec.structs.replace(step, prune=msgspec.structs.replace(step.prune, keep=keep))


def pruned(candidate: Candidate, prune: tuple[Step, ...]) -> Candidate:
    """The same quantization behind a pruning."""
    return Candidate(candidate.method, prune, candidate.quantize)


def excluding(candidate: Candidate, parts: Sequence[str]) -> Candidate:
    """The same method with these parts in full precision."""
    assert candidate.quantize is not None
    settings = msgspec.structs.replace(candidate.quantize, exclude=tuple(parts))
    return Candidate(candidate.method, candidate.prune, settings)
