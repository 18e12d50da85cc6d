"""The Job's whole path: Fetch → steps → Evaluate → gates → Publish, skipping all that the store already holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from optimodel import recipes, repository
from optimodel.api.contract import Artifact, GateResult, JobInput, Result
from optimodel.api.spec import Step
from optimodel.artifacts import StepEntry, Store
from optimodel.artifacts.manifest import scan
from optimodel.recipes import gates

from . import dataset, steps
from .board import Board, log
from .errors import Failure
from .source import check_folder, fetch, weight_bytes


class SourceFacts(msgspec.Struct, frozen=True, rename="camel"):
    """What is remembered of a source, so that it need not be fetched again."""

    weights_bytes: int


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """The full report: the result, and every figure behind it."""

    version: int
    source: str
    result: Result
    details: dict[str, Any] = {}


@dataclass
class Stage:
    """A folder of the path: its digest, and where it lies once somebody needs it."""

    digest: str
    folder: Path | None = None
    weights_bytes: int = 0


class Pipeline:
    """One run of one Job. `work` is scratch space; `mounts` are the folders of source and data claims."""

    def __init__(
        self, job: JobInput, store: Store, board: Board, work: Path, environ: Mapping[str, str], threads: int
    ) -> None:
        self.job, self.store, self.board, self.work = job, store, board, work
        self.environ, self.threads = environ, threads
        self.report_key = f"reports/{job.revision}-{job.evaluation}.json"

    def run(self) -> Result:
        """The result to leave. Raises `Failure` and `StoreError`."""
        self._check()
        if found := self._known():
            return found
        source = self._source()
        stages = [source]
        self.board.phase("Optimize")
        for step in self.job.steps:
            stages.append(self._step(step, source, stages[-1]))
        baseline = stages[1 + next(i for i, step in enumerate(self.job.steps) if step.type == "Export")]
        return self._judge(source, baseline, stages[-1])

    def _check(self) -> None:
        problems = recipes.check(self.job.task, self.job.steps, self.job.gates, self.job.data)
        if problems:
            raise Failure(problems[0].reason, problems[0].message)

    def _known(self) -> Result | None:
        """What an earlier Job with the same revision and evidence published, if it is still whole. Missed gates are measured
        again: somebody asked for it, and latencies are never twice the same."""
        report = self.store.read(self.report_key, Report)
        if report is None or report.result.outcome == "Failed" or report.result.artifact is None:
            return None
        stale = self.job.pinned_source not in (None, report.source)
        if stale or not self.store.exists(report.result.artifact.digest):
            return None
        for name in self._names():
            self.board.end(name, "Cached", "found in the store")
        sizes = {step.name: step.bytes for step in report.result.steps}
        cached = tuple(msgspec.structs.replace(s, bytes=sizes.get(s.name, 0)) for s in self.board.steps)
        return msgspec.structs.replace(report.result, steps=cached)

    def _names(self) -> list[str]:
        return [step.name for step in self.board.steps]

    # Fetch

    def _source(self) -> Stage:
        """The source: its digest is enough where every step is in the store."""
        pinned = self.job.pinned_source
        if pinned and self._all_cached(pinned):
            facts = self.store.read(_facts_key(pinned), SourceFacts)
            if facts:
                self.board.end("Fetch", "Cached", "every step is in the store", facts.weights_bytes)
                return Stage(pinned, None, facts.weights_bytes)
        return self._fetch()

    def _all_cached(self, digest: str) -> bool:
        for step in self.job.steps:
            entry = self.store.step(steps.key(step, digest, self.job.task))
            if entry is None:
                return False
            digest = entry.output
        return True

    def _fetch(self) -> Stage:
        self.board.start("Fetch")
        folder = self.work / "source"
        fetch(self.job.source, folder, self.environ, lambda percent, word: self.board.percent("Fetch", percent, word))
        check_folder(folder, self.job.task)
        digest = scan(folder).digest
        if self.job.pinned_source not in (None, digest):
            raise Failure(
                "SourceChanged",
                "The source no longer holds the bytes of this revision. Set spec.source.refresh to optimize what it holds now.",
            )
        stage = Stage(digest, folder, weight_bytes(folder))
        self.store.write(_facts_key(digest), SourceFacts(stage.weights_bytes))
        self.board.end("Fetch", "Done", digest[:19], stage.weights_bytes)
        return stage

    # Steps

    def _step(self, step: Step, source: Stage, before: Stage) -> Stage:
        key = steps.key(step, before.digest, self.job.task)
        if entry := self.store.step(key):
            self.board.end(step.name, "Cached", entry.output[:19], entry.weights_bytes)
            return Stage(entry.output, None, entry.weights_bytes)
        folder = self._folder(before) if before is not source else self._source_folder(source)
        self.board.start(step.name)
        out = self.work / step.name
        report = lambda percent, word: self.board.percent(step.name, percent, word)  # noqa: E731
        checkpoint = self.work / "checkpoints" / key
        notes: dict[str, Any] = {}
        context = steps.Context(
            self.job.task, self.threads, self.work, report, self._rows, checkpoint, notes.__setitem__
        )
        steps.run(step, folder, out, context)
        digest = self.store.publish(out).digest
        weights = weight_bytes(out)
        told = msgspec.json.encode(notes).decode() if notes else ""
        entry = self.store.remember(key, StepEntry(step.type, before.digest, digest, weights, told))
        self.board.end(step.name, "Done", entry.output[:19], entry.weights_bytes)
        return Stage(entry.output, out if entry.output == digest else None, entry.weights_bytes)

    def _rows(self, name: str) -> list[dataset.Row]:
        """All rows of the data that a step names."""
        found = next((d for d in self.job.data if d.name == name), None)
        if found is None:
            raise Failure("DataUnknown", f"spec.data has no dataset {name!r}. Add it or name another.")
        return dataset.load(found, self.environ)

    def _source_folder(self, source: Stage) -> Path:
        if source.folder is None:  # its steps were in the store a moment ago, and no longer are
            source.folder = self._fetch().folder
        assert source.folder is not None
        return source.folder

    def _folder(self, stage: Stage) -> Path:
        """The stage's files, fetched from the store and verified where they are not at hand."""
        if stage.folder is None:
            stage.folder = self.work / f"stored-{stage.digest[7:19]}"
            if not stage.folder.exists():
                self.store.fetch(stage.digest, stage.folder)
        return stage.folder

    # Evaluate, judge, publish

    def _judge(self, source: Stage, baseline: Stage, final: Stage) -> Result:
        from .answers import Answerer
        from .evaluate import evaluate, golden

        self.board.phase("Evaluate")
        self.board.start("Evaluate")
        wanted = {recipes.gate_dataset(gate, self.job.data) for gate in self.job.gates} | (
            {self.job.data[0].name} if self.job.data else set()
        )
        data = {d.name: dataset.load(d, self.environ) for d in self.job.data if d.name in wanted}
        ratio = final.weights_bytes / max(1, source.weights_bytes)
        report = lambda percent, word: self.board.percent("Evaluate", percent, word)  # noqa: E731
        base, best = (Answerer(self._folder(s), self.threads, self.job.batching) for s in (baseline, final))
        evidence = evaluate(base, best, data, self.job.shapes, ratio, report)
        judged_on = {gate.name: recipes.gate_dataset(gate, self.job.data) for gate in self.job.gates}
        verdicts = gates.judge(self.job.gates, evidence.measurements, judged_on)
        self.board.end("Evaluate", "Done", f"{evidence.figures.samples} samples")
        inputs, outputs = repository.interface(best.description)
        artifact = Artifact(
            digest=final.digest,
            bytes=self.store.manifest(final.digest).bytes,
            weights_bytes=final.weights_bytes,
            source_digest=source.digest,
            source_weights_bytes=source.weights_bytes,
            inputs=inputs,
            outputs=outputs,
            max_batch_size=evidence.max_batch_size,
            golden=golden(best),
        )
        return self._publish(artifact, verdicts, evidence.figures, evidence.details)

    def _publish(self, artifact: Artifact, verdicts: tuple[GateResult, ...], figures: Any, details: Any) -> Result:
        """Make the artifact count if its gates passed, and leave the report whatever they said."""
        self.board.phase("Publish")
        self.board.start("Publish")
        missed = [v for v in verdicts if v.verdict != "Pass"]
        for verdict in verdicts:
            log(f"gate {verdict.name}: {verdict.verdict} {verdict.message}".rstrip())
        if missed:
            failed = any(v.verdict == "Fail" for v in missed)
            reason = "GateFailed" if failed else "GateInconclusive"
            message = " ".join(f"{v.name}: {v.message}" for v in missed)
            self.board.end("Publish", "Failed", f"{len(missed)} of {len(verdicts)} gates not passed")
            result = Result("Failed", reason, message)
        else:
            self.store.mark_published(artifact.digest)
            self.board.end("Publish", "Done", artifact.digest[:19], artifact.weights_bytes)
            result = Result("Succeeded", "Published")
        self.board.phase("Done")
        result = msgspec.structs.replace(
            result, artifact=artifact, steps=self.board.steps, gates=verdicts, figures=figures, report=self.report_key
        )
        self.store.write(self.report_key, Report(1, artifact.source_digest, result, details))
        return result


def _facts_key(digest: str) -> str:
    return f"sources/{digest.removeprefix('sha256:')}.json"
