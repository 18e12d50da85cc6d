"""One trial: make a candidate, and measure it on rows that neither steps nor gates have.

Prunings and exports go through the store of steps, so that candidates share them; what a candidate adds to an exported graph takes
seconds, stays here, and is gone after its trial.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec

from optimodel import recipes
from optimodel.api.contract import ExitCode, GateResult, JobInput
from optimodel.api.search import Auto
from optimodel.api.spec import Shape
from optimodel.api.steps import Quantize, Step
from optimodel.recipes import gates, search
from optimodel.recipes.gates import Key, Observed
from optimodel.recipes.search import Candidate, Finding, Observation, Part, Sensitivity, Timing

from .. import steps
from ..data import dataset
from ..data.rows import Row, sample
from ..errors import Failure
from ..evidence.evaluate import INVARIANT, Evidence, batch_invariance, evaluate
from ..evidence.latency import compared
from ..inference.answers import Answerer, cosines
from ..inference.fronts import Array
from ..source import weight_bytes

FEW = 64
"""Texts of the screen and of the sensitivity, at even distances."""
ROUNDS = 15
"""Of the final. A block lasts a second at most, or three answers: with five sides a minute or so in all."""
BATCHED = ("Throughput", "Cost")
"""Objectives that are about the shape of the largest batch."""
Told = Callable[[int, str], None]
"""Takes percent and a word."""


class Remembering(Answerer):
    """The baseline's answers, computed once: every candidate is compared with them."""

    @cached_property
    def _answers(self) -> dict[str, Array]:
        return {}

    def alone(self, question: str) -> Array:
        """As `Answerer.alone`."""
        if question not in self._answers:
            self._answers[question] = super().alone(question)
        return self._answers[question]


class Bench:
    """What candidates are made of and measured with. `baseline` and `graph` are exported folders, `graph` that behind a pruning;
    `rows` gives those of a name. Methods raise `Failure`."""

    def __init__(
        self,
        job: JobInput,
        auto: Auto,
        work: Path,
        threads: int,
        source_bytes: int,
        baseline: Path,
        graph: Callable[[Sequence[Step], Told], Path],
        rows: Callable[[str], list[Row]],
    ) -> None:
        self.job, self.auto, self.work, self.threads, self.source_bytes = job, auto, work, threads, source_bytes
        self._graph, self._data = graph, rows
        self.base_bytes = weight_bytes(baseline)
        self.rows = self._validation()
        self.base = Remembering(baseline, threads, job.batching)
        self.shapes = self.base.front.shapes(self.job.shapes)

    def _validation(self) -> list[Row]:
        counted = any(gate.metric in recipes.LABEL_METRICS for gate in self.job.gates)
        return sample(self._data(self.auto.validation), dataset.MAX_LABELLED_ROWS if counted else dataset.MAX_ROWS)

    def observe(self, candidate: Candidate, findings: Sequence[Finding], told: Told) -> Observation:
        """A trial. What cannot be made is an answer too, unless the world is to blame."""
        try:
            folder = self._made(candidate, told)
        except Failure as failure:
            if failure.code == ExitCode.WORLD:
                raise
            return Observation(candidate.name, "Failed", message=f"{failure.reason}: {failure.message}"[:300])
        return self._measured(candidate, folder, findings)

    def final(self, candidates: Sequence[Candidate], told: Told) -> Timing:
        """The candidates in turn with the baseline, at the shape that the objective counts. They are made once more, which takes
        seconds each: what they were pruned to is in the store."""
        folders = [self._made(c, told, f"finalist-{number}") for number, c in enumerate(candidates)]
        others = [Answerer(folder, self.threads, self.job.batching) for folder in folders]
        batched = self.auto.objective in BATCHED
        served = [self._counted(not batched or batch_invariance(other) >= INVARIANT) for other in others]
        sides = [(self.base, self._counted(True)), *zip(others, served, strict=True)]
        rounds = [
            [ms / shape.batch_size for ms, (_, shape) in zip(r, sides, strict=True)] for r in compared(sides, ROUNDS)
        ]
        sizes = [weight_bytes(folder) for folder in folders]
        values = (tuple(self._value(r[n] / r[0], size) for r in rounds) for n, size in enumerate(sizes, 1))
        for number in range(len(folders)):
            shutil.rmtree(self.work / f"finalist-{number}", ignore_errors=True)
        return Timing(tuple(c.name for c in candidates), tuple(values))

    def _made(self, candidate: Candidate, told: Told, name: str = "trial") -> Path:
        graph = self._graph(candidate.prune, told)
        return graph if candidate.quantize is None else self._quantized(graph, candidate.quantize, name)

    def _quantized(self, graph: Path, settings: Quantize, name: str = "trial") -> Path:
        """The graph in smaller numbers, in the place of the one before."""
        out = self.work / name
        shutil.rmtree(out, ignore_errors=True)
        context = steps.Context(
            self.job.task, self.threads, self.work, lambda *_: None, self._data, self.work / "checkpoints"
        )
        steps.run(Step("trial", "Quantize", quantize=settings), graph, out, context)
        return out

    def _measured(self, candidate: Candidate, folder: Path, findings: Sequence[Finding]) -> Observation:
        """Few texts, then the clock, then all texts: as far as there is hope."""
        best = Answerer(folder, self.threads, self.job.batching)
        size = weight_bytes(folder)
        few = self._evaluated(best, size, sample(self.rows, FEW))
        verdicts = self._judged(few.measurements)
        found = Observation(candidate.name, "Screened", 0, candidate.count, size, verdicts, search.quality(verdicts))
        if _out(verdicts):
            return found
        invariant = few.details["batchInvariance"] >= INVARIANT
        clock = self._timed(best, size, invariant)
        verdicts = self._judged(few.measurements | clock.measurements)
        latency, value = self._costs(clock.details["latency"], size, invariant)
        found = msgspec.structs.replace(found, stage="Timed", gates=verdicts, latency=latency, value=value)
        if _out(verdicts) or not search.unbeaten(found, findings):
            return found
        whole = self._evaluated(best, size, self.rows)
        verdicts = self._judged(clock.measurements | whole.measurements)
        return msgspec.structs.replace(found, stage="Judged", gates=verdicts, quality=search.quality(verdicts))

    def _evaluated(self, best: Answerer, size: int, rows: Sequence[Row], shapes: Sequence[Shape] = ()) -> Evidence:
        data = {self.auto.validation: rows} if rows else {}
        ratio, blocks = size / max(1, self.source_bytes), gates.blocks(self.job.gates)
        return evaluate(self.base, best, data, shapes, ratio, lambda *_: None, blocks)

    def _judged(self, measurements: Mapping[Key, Observed]) -> tuple[GateResult, ...]:
        """The floor: every gate, with the search's own rows in place of its data."""
        bars = self.job.gates
        return gates.judge(bars, measurements, {gate.name: self.auto.validation for gate in bars})

    def _timed(self, best: Answerer, size: int, invariant: bool) -> Evidence:
        """The clock at the first shape, and for objectives that count texts at that of the largest batch: one by one if the
        answers depend on batch neighbours, since they are served so."""
        counted = [self._counted(True), self._counted(invariant)] if self.auto.objective in BATCHED else []
        return self._evaluated(best, size, (), (self.shapes[0], *dict.fromkeys(counted)))

    def _counted(self, invariant: bool) -> Shape:
        """The shape that the objective is about."""
        if self.auto.objective not in BATCHED:
            return self.shapes[0]
        largest = max(self.shapes, key=lambda s: s.batch_size)
        return largest if invariant else Shape(1, largest.sequence_length)

    def _costs(self, latency: Sequence[Mapping[str, Any]], size: int, invariant: bool) -> tuple[float, float]:
        """p50 at the first shape and the objective, as shares of the baseline's. Images know no lengths, so that shapes of one batch
        size are one."""
        first = 1 / latency[0]["speedup"]
        if len(latency) == 1:
            return first, self._value(first, size)
        by_batch = {found["batchSize"]: found for found in latency}
        largest, served = (by_batch[self._counted(wanted).batch_size] for wanted in (True, invariant))
        text = (served["p50Ms"] / served["batchSize"]) / (largest["baselineP50Ms"] / largest["batchSize"])
        return first, self._value(text, size)

    def _value(self, time: float, size: int) -> float:
        """The objective as a share of the baseline's, by the share of the time that it counts and the bytes."""
        smaller = size / max(1, self.base_bytes)
        return {"Latency": time, "Throughput": time, "Size": smaller, "Cost": time * smaller}[self.auto.objective]

    def rank(self, candidate: Candidate, told: Told) -> Sensitivity:
        """What each part of the graph loses when it alone is quantized."""
        from ..steps.quantize.parts import load, parts

        assert candidate.quantize is not None
        graph = self._graph((), told)
        texts = [row.text for row in sample(self.rows, FEW)]
        whole = Answerer(graph, self.threads, self.job.batching)
        before = [whole.alone(text) for text in texts]
        names = sorted(set(parts(load(graph / "model.onnx")).values()))
        found = []
        for name in names:
            others = tuple(other for other in names if other != name)
            settings = msgspec.structs.replace(candidate.quantize, exclude=others)
            found.append(self._part(name, graph, settings, texts, before))
        return Sensitivity(candidate.method, tuple(found))

    def _part(self, name: str, graph: Path, settings: Quantize, texts: Sequence[str], before: Sequence[Array]) -> Part:
        """What the graph loses by these settings, which quantize this part alone; all of it if nothing comes of them."""
        try:
            folder = self._quantized(graph, settings)
        except Failure as failure:
            if failure.code == ExitCode.WORLD:
                raise
            return Part(name, 1.0, 0)
        answerer = Answerer(folder, self.threads, self.job.batching)
        drop = 1 - fmean(cosines(before, [answerer.alone(text) for text in texts]).tolist())
        return Part(name, round(drop, 6), weight_bytes(graph) - weight_bytes(folder))


def _out(verdicts: Sequence[GateResult]) -> bool:
    return any(verdict.verdict == "Fail" for verdict in verdicts)
