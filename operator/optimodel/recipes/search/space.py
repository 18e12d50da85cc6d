"""What a search may try: a small tree of steps behind those of the user, grown where trials show that it is worth while."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import msgspec

from optimodel.api.search import Auto, Objective
from optimodel.api.spec import Target
from optimodel.api.steps import Prune, Quantize, Recover, Step, Training

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
        "float16": Quantize("Float16"),
    }
}
"""By device, how a graph can be quantized for it."""
PROMISING: Mapping[Objective, frozenset[str]] = {
    "Latency": frozenset({"dynamic-int8", "static-int8"}),
    "Throughput": frozenset({"dynamic-int8", "static-int8"}),
    "Size": frozenset({"weights-int4"}),
    "Cost": frozenset({"dynamic-int8", "static-int8", "weights-int4"}),
}
"""Tried before the others: weights alone in fewer bits save bytes, not time (docs/techniques/quantize.md)."""
FFN_KEEP = "0.5"
RECOVERY = Training(epochs=4, learning_rate="0.0002")
"""Half of the feed-forward neurons stay, and are trained towards the model before."""


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
        pruned = (f"{step.prune.method} pruned, " for step in self.prune if step.prune)
        kept = f" except {', '.join(self.quantize.exclude)}" if self.quantize and self.quantize.exclude else ""
        return "".join((*pruned, self.method, kept))

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
    """The tree of one search. `compressed` = the user's own steps make the model smaller already."""

    auto: Auto
    target: Target
    compressed: bool = False

    def leaves(self) -> tuple[Candidate, ...]:
        """Every method plain, those that promise most first, each half in an order drawn by the seed; at the end the graph
        as it is, if it is smaller than the baseline. Static needs data to calibrate on."""
        chance = random.Random(self.auto.seed)
        known = METHODS[self.target.device]
        usable = [name for name in known if known[name].method != "Static" or self.auto.train is not None]
        chance.shuffle(usable)
        usable.sort(key=lambda name: name not in PROMISING[self.auto.objective])
        found = [Candidate(name, quantize=self._with_data(known[name])) for name in usable]
        return (*found, *([Candidate(FULL)] if self.compressed else ()))

    def _with_data(self, settings: Quantize) -> Quantize:
        return msgspec.structs.replace(settings, data=self.auto.train) if settings.method == "Static" else settings

    def prunings(self) -> tuple[tuple[Step, ...], ...]:
        """Ways to prune, none left out: a longer one begins with a shorter one, and shares what that made."""
        steps = [self._prune(method) for method in ("FFN", "Vocabulary") if method in self.auto.prune]
        return tuple(chain.from_iterable(combinations(steps, n) for n in range(1, len(steps) + 1)))

    def _prune(self, method: str) -> Step:
        train = self.auto.train
        assert train is not None, "refused by `rules.check`"
        if method == "Vocabulary":
            return Step(f"{PREFIX}vocabulary", "Prune", prune=Prune("Vocabulary", data=train))
        training = msgspec.structs.replace(RECOVERY, seed=self.auto.seed)
        settings = Prune("FFN", FFN_KEEP, train, Recover(train, training=training))
        return Step(f"{PREFIX}ffn", "Prune", prune=settings)


def pruned(candidate: Candidate, prune: tuple[Step, ...]) -> Candidate:
    """The same quantization behind a pruning."""
    return Candidate(candidate.method, prune, candidate.quantize)


def excluding(candidate: Candidate, parts: Sequence[str]) -> Candidate:
    """The same method with these parts in full precision."""
    assert candidate.quantize is not None
    settings = msgspec.structs.replace(candidate.quantize, exclude=tuple(parts))
    return Candidate(candidate.method, candidate.prune, settings)
