"""`python -m tests.perf.tools_clock GRAPH`: one pass over one graph in a fresh process, a JSON line for each shape.

A block is half a second of runs. What the rest of the machine computed meanwhile is told with it, since who shares caches and cores
with others measures them too.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
from tests.perf import figures

from optimodel.api.spec import Shape
from optimodel.worker.inference.answers import session

SHAPES = (Shape(1, 32), Shape(1, 128), Shape(8, 32), Shape(8, 128))
BLOCK_S, MIN_RUNS = 0.5, 5
SMALLEST_VOCABULARY = 1000


class Block(msgspec.Struct, frozen=True):
    """Runs of one shape in a row: milliseconds of the clock and of this process's CPU, and the share of the machine's CPUs that
    others used."""

    batch: int
    tokens: int
    ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]
    foreign: float


def block(graph: object, shape: Shape) -> Block:
    """Time one shape, after two runs that do not count."""
    size = (shape.batch_size, shape.sequence_length)
    ids = np.random.default_rng(1).integers(100, SMALLEST_VOCABULARY, size)
    values = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    inputs = {i.name: values[i.name] for i in graph.get_inputs()}  # type: ignore[attr-defined]
    ms, cpu = [], []
    for _ in range(2):
        graph.run(None, inputs)  # type: ignore[attr-defined]
    others, began = figures.busy() - time.process_time(), time.perf_counter()
    spent = 0.0
    while len(ms) < MIN_RUNS or spent < 1e3 * BLOCK_S:
        wall, own = time.perf_counter(), time.process_time()
        graph.run(None, inputs)  # type: ignore[attr-defined]
        ms.append(1e3 * (time.perf_counter() - wall))
        cpu.append(1e3 * (time.process_time() - own))
        spent += ms[-1]
    took = time.perf_counter() - began
    foreign = (figures.busy() - time.process_time() - others) / (took * (os.cpu_count() or 1))
    return Block(*size, tuple(ms), tuple(cpu), max(0.0, foreign))


def main(graph: Path) -> None:
    """Print a block for each shape; one thread, and the options with which the worker measures."""
    loaded = session(graph, 1)
    for shape in SHAPES:
        print(msgspec.json.encode(block(loaded, shape)).decode(), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
