"""The tables of `make bench-tools`, as they stand in docs/benchmarks.md."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

from tests.perf import tools_build
from tests.perf.tools_arms import Arm, Subject
from tests.perf.tools_build import Built
from tests.perf.tools_clock import SHAPES, Block

from optimodel.api.spec import Shape
from optimodel.recipes.gates import quantile

NOTHING = "–"
TORCH = ("torch", "nvidia-", "cuda-", "triton")
"""What every one of the environments has in the same version."""


@dataclass(frozen=True)
class Row:
    """Everything of one arm: `near` = cosine to the plain graph's answers, as mean, p5 and smallest; `right` = accuracy."""

    arm: Arm
    built: Built
    near: tuple[float, float, float] = (0.0, 0.0, 0.0)
    right: float | None = None
    invariance: float = 0.0
    blocks: tuple[Block, ...] = ()


def print_all(subject: Subject, rows: Sequence[Row], failed: Sequence[Row], foreign: float) -> None:
    """Quality and cost, then latency, then what failed and why."""
    print(f"\n{subject}\n")
    head = ["MB", "cosine mean", "p5", "smallest", "batch invariance", "build s (CPU s)", "peak MiB", "lines"]
    if any(row.right is not None for row in rows):
        head.insert(1, "accuracy %")
    _table(head, rows, _quality)
    print(f"\nms: p50 / p95 (range of the blocks' p50) of blocks with at most {foreign:.0%} foreign CPU\n")
    shapes = [f"{shape.batch_size} × {shape.sequence_length}" for shape in SHAPES]
    _table(shapes, rows, lambda row: [_clock(row, shape, foreign) for shape in SHAPES])
    every = [block for row in rows for block in row.blocks]
    print(f"\n{sum(block.foreign > foreign for block in every)} of {len(every)} blocks dropped")
    print("\nms of CPU: p50 (range of the blocks' p50), all blocks\n")
    _table(shapes, rows, lambda row: [_cpu(row, shape) for shape in SHAPES])
    for row in failed:
        print(f"\nfailed after {row.built.seconds:.0f} s: {row.arm.name}: {row.built.failure}")


def _table(head: Sequence[str], rows: Sequence[Row], cells: Callable[[Row], list[str]]) -> None:
    print(_line("variant", *head))
    print("|---" * (len(head) + 1) + "|")
    for row in rows:
        print(_line(row.arm.name, *cells(row)))


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def print_machine() -> None:
    """Where, with what, and what it takes to have it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    flags = next(line for line in lines if line.startswith("flags")).split()
    vectors = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx_vnni") if flag in flags]
    print(f"\n{model} ({', '.join(vectors)}), {os.cpu_count()} CPUs, one thread, ONNX Runtime {version('onnxruntime')}")
    for site in ("worker", "bench-optimum", "bench-olive"):
        total, own = (tools_build.gigabytes(site, without) for without in ((), TORCH))
        print(f"{site}: {total:.1f} GB installed, {own:.2f} GB without torch and its CUDA libraries")


def _quality(row: Row) -> list[str]:
    built = row.built
    right = [] if row.right is None else [f"{100 * row.right:.1f}"]
    near = [f"{value:.4f}" for value in (*row.near, row.invariance)]
    cost = [f"{built.seconds:.0f} ({built.cpu_seconds:.0f})", str(built.peak_mib), str(row.arm.lines)]
    return [f"{built.megabytes:.1f}", *right, *near, *cost]


def _of(row: Row, shape: Shape) -> list[Block]:
    return [b for b in row.blocks if (b.batch, b.tokens) == (shape.batch_size, shape.sequence_length)]


def _clock(row: Row, shape: Shape, foreign: float) -> str:
    quiet = [block for block in _of(row, shape) if block.foreign <= foreign]
    if not quiet:
        return NOTHING
    every = sorted(ms for block in quiet for ms in block.ms)
    return f"{median(every):.2f} / {quantile(every, 0.95):.2f} ({_range([median(b.ms) for b in quiet])})"


def _cpu(row: Row, shape: Shape) -> str:
    found = [median(block.cpu_ms) for block in _of(row, shape)]
    return f"{median(found):.2f} ({_range(found)})" if found else NOTHING


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"
