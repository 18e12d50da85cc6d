"""Interleaved latency: baseline and candidate take turns in blocks, so that a noisy machine disturbs both alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import median
from typing import Any

import numpy as np

from optimodel.api.spec import Shape
from optimodel.backends.generation import PAST
from optimodel.recipes.gates import p95

from ..inference.answers import Answerer
from ..inference.fronts import Array

BLOCKS, MIN_BLOCKS, SHAPE_S = 9, 6, 60.0
"""Rounds in which each has a block, and how few are enough once a shape took a minute: they bound a median at 95 %, and a slow answer
suffers less from a noisy clock."""
RUNS, MIN_RUNS, BLOCK_S = 15, 3, 1.0
"""Runs of a block, cut short after a second."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds at one shape, of images a batch size: the runs of each block, those of the two in the same rounds."""

    shape: Shape
    baseline: tuple[Sequence[float], ...]
    candidate: tuple[Sequence[float], ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """Candidate p50 / baseline p50 of each pair of blocks."""
        return tuple(median(c) / median(b) for b, c in zip(self.baseline, self.candidate, strict=True))

    @property
    def p50s(self) -> tuple[float, float]:
        """Of all runs, the baseline's and the candidate's."""
        return median(chain(*self.baseline)), median(chain(*self.candidate))

    def summary(self) -> dict[str, Any]:
        """For the report."""
        speedups, p50s = sorted(1 / r for r in self.ratios), self.p50s
        return {
            "batchSize": self.shape.batch_size,
            **({"sequenceLength": self.shape.sequence_length} if self.shape.sequence_length else {}),
            "baselineP50Ms": round(p50s[0], 3),
            "p50Ms": round(p50s[1], 3),
            "baselineP95Ms": round(median(p95(self.baseline).sample), 3),
            "p95Ms": round(median(p95(self.candidate).sample), 3),
            "speedup": round(median(speedups), 3),
            "speedupRange": [round(speedups[0], 3), round(speedups[-1], 3)],
            "runs": sum(map(len, self.candidate)),
        }


def measure(
    baseline: Answerer,
    candidate: Answerer,
    shapes: Sequence[Shape],
    done: Callable[[int], None] = lambda _: None,
    *,
    next_token: bool = False,
    blocks: int = MIN_BLOCKS,
) -> list[Latency]:
    """Both graphs at every shape, in at least so many blocks that alternate who goes first; of decoders, a whole prompt of that shape
    or the `next_token` behind it. `done` is told how many shapes are."""
    found, least = [], max(blocks, MIN_BLOCKS)
    for number, shape in enumerate(shapes):
        sides = [_side(answerer, shape, next_token) for answerer in (baseline, candidate)]
        before, after = zip(*_in_turn(sides, max(BLOCKS, least), least), strict=True)
        found.append(Latency(shape, before, after))
        done(number + 1)
    return found


def compared(sides: Sequence[tuple[Answerer, Shape]], rounds: int) -> list[tuple[float, ...]]:
    """Median milliseconds of each side in each of so many rounds."""
    found = _in_turn([_side(answerer, shape, False) for answerer, shape in sides], rounds, rounds)
    return [tuple(map(median, blocks)) for blocks in found]


def _in_turn(sides: Sequence[tuple[Any, dict[str, Array]]], rounds: int, least: int) -> list[list[list[float]]]:
    """By round a block of each side, in the order of the sides; every round begins with another one. After `least` rounds none begins
    that is late."""
    end = time.perf_counter() + SHAPE_S
    for side in sides:
        _block(*side, 2)
    found: list[list[list[float]]] = []
    for turn in range(rounds):
        if turn >= least and time.perf_counter() > end:
            break
        order = [(turn + place) % len(sides) for place in range(len(sides))]
        blocks = {number: _block(*sides[number], RUNS) for number in order}
        found.append([blocks[number] for number in range(len(sides))])
    return found


def _side(answerer: Answerer, shape: Shape, next_token: bool) -> tuple[Any, dict[str, Array]]:
    """A session and what it is given: of its own vocabulary, since a pruned one knows fewer tokens."""
    texts = shape.batch_size
    new, past = (1, shape.sequence_length) if next_token else (shape.sequence_length, 0)
    inputs = answerer.front.sample(texts, new)
    for tensor in answerer.session.get_inputs():
        if tensor.name.startswith(PAST):
            _, heads, _, size = tensor.shape
            inputs[tensor.name] = np.random.default_rng(1).standard_normal((texts, heads, past, size), np.float32)
            inputs["attention_mask"] = np.ones((texts, past + new), np.int64)
    return answerer.session, inputs


def _block(session: Any, inputs: dict[str, Array], runs: int) -> list[float]:
    """Milliseconds of consecutive runs."""
    found: list[float] = []
    end = time.perf_counter() + BLOCK_S
    while len(found) < runs and (len(found) < MIN_RUNS or time.perf_counter() < end):
        began = time.perf_counter()
        session.run(None, inputs)
        found.append((time.perf_counter() - began) * 1000)
    return found
