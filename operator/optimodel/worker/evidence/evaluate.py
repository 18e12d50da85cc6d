"""Evidence: the candidate against its fp32 baseline on held-out data, size, latency and batch invariance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import msgspec
import numpy as np

from optimodel.api.contract import Figures, Golden
from optimodel.api.spec import Shape
from optimodel.recipes.gates import Key, Measurement, Observed, decimal, p95

from ..data.rows import Row
from ..inference.answers import Answerer, cosines
from ..inference.fronts import Array
from ..inference.generation import Writer
from . import quality
from .latency import MIN_BLOCKS, Latency, measure
from .perplexity import compared

INVARIANT = 0.9999
"""Smallest cosine at which an answer counts as independent of its batch neighbours."""
REMEMBERED = 8
"""Values of a golden answer."""
TELLING = 0.02
"""Twice the tolerance of a golden answer: values that all lie nearer to 0 are within it in almost any model."""


@dataclass(frozen=True)
class Evidence:
    """What was measured: for the gates, for status, and for the report."""

    measurements: dict[Key, Observed]
    figures: Figures
    max_batch_size: int
    details: dict[str, Any]


def evaluate(
    base: Answerer,
    best: Answerer,
    data: Mapping[str, Sequence[Row]],
    shapes: Sequence[Shape],
    size_ratio: float,
    report: Callable[[int, str], None],
    blocks: int = MIN_BLOCKS,
) -> Evidence:
    """Measure everything about `best` against `base`; the latency, in at least so many `blocks`, only where both run on what will
    serve them. `report` gets percent by rows (the first 80), then by shapes. Raises `Failure`."""
    measurements: dict[Key, Observed] = {("SizeRatio", None): Measurement("Exact", (size_ratio,))}
    details: dict[str, Any] = {"sizeRatio": size_ratio, "threads": best.threads, "data": {}}
    figures = Figures(size_ratio=decimal(size_ratio))
    total, done = max(1, sum(map(len, data.values()))), 0
    for name, rows in data.items():
        told = partial(_told, report, done, total)
        found, worth = _compared(base, best, rows, name, told)
        done += len(rows)
        measurements |= {(metric, name): measurement for metric, measurement in found.items()}
        details["data"][name] = worth
        figures = figures if figures.samples else _with_quality(figures, worth)
    invariance = batch_invariance(best)
    measurements["BatchInvariance", None] = Measurement("Exact", (invariance,))
    at_home = base.at_home and best.at_home
    latencies, prompts = _latency(base, best, shapes, report, blocks) if at_home else ([], [])
    for metric, measurement in _latency_measurements(latencies):
        measurements[metric, None] = measurement
    details |= {"batchInvariance": invariance, "latency": [item.summary() for item in latencies]}
    details |= {"promptLatency": [item.summary() for item in prompts]} if prompts else {}
    details |= {} if at_home else {"latencyMissing": f"no {best.accelerator} in this Job"}
    figures = _with_speed(figures, latencies, invariance)
    return Evidence(measurements, figures, 0 if invariance >= INVARIANT else 1, details)


def _told(report: Callable[[int, str], None], done: int, total: int, number: int) -> None:
    report(80 * (done + number) // total, f"{done + number} of {total} rows")


def _told_latency(report: Callable[[int, str], None], total: int, done: int, number: int) -> None:
    report(80 + 20 * (done + number) // total, f"latency at {done + number} of {total} shapes")


def _compared(
    base: Answerer, best: Answerer, rows: Sequence[Row], name: str, done: Callable[[int], None]
) -> quality.Found:
    """What the answers to the rows of the data `name` are worth."""
    if isinstance(base, Writer) and isinstance(best, Writer):
        return compared(base, best, rows, name, done)
    before, after = _answers(base, best, rows, done)
    return quality.measured(before, after, rows, base.description.labels, name)


def _answers(
    base: Answerer, best: Answerer, rows: Sequence[Row], done: Callable[[int], None]
) -> tuple[list[Array], list[Array]]:
    before, after = [], []
    for number, row in enumerate(rows):
        before.append(base.alone(row.text))
        after.append(best.alone(row.text))
        if number % 10 == 0:
            done(number)
    return before, after


def batch_invariance(answerer: Answerer) -> float:
    """The smallest cosine between an answer alone and the same answer, padded alike, among other neighbours."""
    inputs = answerer.front.encode(answerer.front.probes)
    together = answerer.run(inputs)
    alone = [answerer.run({k: v[i : i + 1] for k, v in inputs.items()})[0] for i in range(len(together))]
    return float(cosines(together, alone).min())


def golden(answerer: Answerer) -> Golden:
    """The remembered answer of an artifact: the first eight values of its first output, padded as served; of one that writes,
    the first tokens. Where those eight are near zero, as among a thousand labels, they are so in any model: then the eight
    largest of the question with the largest, within half of that. Int8 is rounded otherwise on another CPU, and a score that is
    neither near 0 nor near 1 moves the most."""
    probes = answerer.front.probes
    if isinstance(answerer, Writer):
        return answerer.golden(probes)
    output, values = _first_output(answerer, probes[0])
    if np.abs(values[:REMEMBERED]).max() >= TELLING:
        return Golden(probes[0], output, _written(values[:REMEMBERED]))
    answers = ((text, _first_output(answerer, text)[1]) for text in probes)
    text, values = max(answers, key=lambda answer: np.abs(answer[1]).max())
    places = np.sort(np.argsort(np.abs(values))[-REMEMBERED:])
    tolerance = f"{np.abs(values).max() / 2:.6f}"
    return Golden(text, output, _written(values[places]), tolerance, places=tuple(places.tolist()))


def _first_output(answerer: Answerer, question: str) -> tuple[str, Array]:
    output, answers = next(iter(answerer.public(answerer.alone(question)[None]).items()))
    return output, answers[0]


def _written(values: Array) -> tuple[str, ...]:
    return tuple(f"{value:.6f}" for value in values)


def _latency(
    base: Answerer, best: Answerer, shapes: Sequence[Shape], report: Callable[[int, str], None], blocks: int
) -> tuple[list[Latency], list[Latency]]:
    """Of an answer at each shape; of a decoder, of the next token behind each, and of the prompt itself."""
    fitting = base.front.shapes(shapes)
    count = len(fitting)
    if not isinstance(base, Writer):
        return measure(base, best, fitting, partial(_told_latency, report, count, 0), blocks=blocks), []
    tokens, prompts = (partial(_told_latency, report, 2 * count, done) for done in (0, count))
    return measure(base, best, fitting, tokens, next_token=True, blocks=blocks), measure(base, best, fitting, prompts)


def _latency_measurements(latencies: Sequence[Latency]) -> list[tuple[Any, Measurement]]:
    if not latencies:
        return []
    first = latencies[0]
    return [
        ("LatencyP50Ratio", Measurement("Quantile", first.ratios, 0.5)),
        ("LatencyP95Ms", p95(first.candidate)),
    ]


def _with_quality(figures: Figures, worth: Mapping[str, Any]) -> Figures:
    def told(name: str) -> str:
        return decimal(worth[name]) if name in worth else ""

    return Figures(
        cosine_mean=told("cosineMean"),
        cosine_p5=told("cosineP5"),
        cosine_min=told("cosineMin"),
        accuracy=told("accuracy"),
        baseline_accuracy=told("baselineAccuracy"),
        perplexity=told("perplexity"),
        baseline_perplexity=told("baselinePerplexity"),
        samples=worth["samples"],
        size_ratio=figures.size_ratio,
    )


def _with_speed(figures: Figures, latencies: Sequence[Latency], invariance: float) -> Figures:
    speed: dict[str, str] = {"batch_invariance": decimal(invariance)}
    if latencies:
        first = latencies[0]
        speedups = sorted(1 / ratio for ratio in first.ratios)
        speed |= {
            "baseline_p50_ms": decimal(first.p50s[0]),
            "p50_ms": decimal(first.p50s[1]),
            "speedup": decimal(median(speedups)),
            "speedup_low": decimal(speedups[0]),
            "speedup_high": decimal(speedups[-1]),
        }
    return msgspec.structs.replace(figures, **speed)
