"""The Job's whole path: Fetch → steps → Search, if asked for → Evaluate → gates → Publish, skipping all that the store already holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from optimodel import recipes, repository
from optimodel.api.contract import Artifact, GateResult, Pins, Result
from optimodel.api.search import Auto
from optimodel.api.spec import LABELLED, Accelerator, Target
from optimodel.api.steps import Step
from optimodel.recipes import gates, models, search
from optimodel.recipes.settings import VIRTUAL

from . import report
from .board import SEARCH, log
from .data import dataset
from .data.rows import Row, sample
from .errors import Failure
from .report import Report, facts
from .source import head
from .workshop import Stage, Workshop

if TYPE_CHECKING:
    from .search import Outcome

BASELINE = ".baseline"
"""Folder and name of the baseline's Export where it is none of the pipeline's own; no step of a user begins with a dot."""


class Pipeline:
    """One run of one Job, whose steps a search may have completed by its end."""

    def __init__(self, shop: Workshop) -> None:
        self.shop, self.job, self.store, self.board = shop, shop.job, shop.store, shop.board
        self.data_digest = ""
        self.models: dict[str, str] = {}
        self.outcome: Outcome | None = None
        self.report_key = f"reports/{self.job.revision}-{self.job.evaluation}.json"

    def run(self) -> Result:
        """The result to leave. Raises `Failure` and `StoreError`."""
        self._check()
        pinned = self.job.pinned_source
        if pinned and (found := self._known(pinned, self.job.pinned_data or "", self.job.pinned_models)):
            return found
        self.data_digest = self._data()
        source = self.shop.source()
        self.models = self.shop.models.digests(models.named_by(*self.job.steps))
        if not pinned and (found := self._known(source.digest, self.data_digest, self.models)):
            return found
        if source.folder is not None:
            self._check_source(source.folder)
        self._check_students(source)
        stages = [source]
        self.board.phase("Optimize")
        until = self.job.until
        mine = [step.name for step in self.job.steps].index(until) + 1 if until else len(self.job.steps)
        if self.job.auto is None or mine < len(self.job.steps):
            stages = self._walk(self.job.steps[:mine], source, stages)
        else:
            stages = self._search(self.job.auto, source, self._walk(self.job.steps[:-1], source, stages))
            stages = self._walk(self.job.steps, source, stages)
        return self._judge(source, stages) if until is None else self._stop(source, until)

    def _walk(self, wanted: Sequence[Step], source: Stage, stages: Sequence[Stage]) -> list[Stage]:
        """The stages with those of the steps that are still to be done."""
        found = list(stages)
        for step in wanted[len(found) - 1 :]:
            found.append(self.shop.step(step, source, found[-1]))
        return found

    def _check(self) -> None:
        job = self.job
        problems = (
            *search.check(job.auto, job.task, job.steps, job.gates, job.data),
            *recipes.check(job.task, job.steps, job.gates, job.data, _target(job.accelerator)),
            *models.check(job.steps, job.models),
        )
        if problems:
            raise Failure(problems[0].reason, problems[0].message)

    def _known(self, source: str, data: str, others: Mapping[str, str]) -> Result | None:
        """What an earlier Job with the same revision and evidence made of these bytes, and judged on these rows, if it is still whole:
        an equal spec of another day, or at another endpoint, may have read others. Missed gates are measured again: somebody asked
        for it, and latencies are never twice the same."""
        report = self.store.read(self.report_key, Report)
        if report is None or report.result.outcome == "Failed" or report.result.artifact is None:
            return None
        artifact = report.result.artifact
        read = (report.source, artifact.data_digest, artifact.models, report.judged_on)
        if read != (source, data, others, self._judged()) or not self.store.exists(artifact.digest):
            return None
        if self.job.auto is not None:
            names = [step.name for step in report.result.steps]
            self.board.follow(names[names.index(SEARCH) + 1 : names.index("Evaluate")])
        for name in (step.name for step in self.board.steps if step.state == "Pending"):
            self.board.end(name, "Cached", "found in the store")
        sizes = {step.name: step.bytes for step in report.result.steps}
        cached = tuple(msgspec.structs.replace(s, bytes=sizes.get(s.name, 0)) for s in self.board.steps)
        return msgspec.structs.replace(report.result, steps=cached)

    def _data(self) -> str:
        """What the rows that steps read say. Raises `Failure` where it is not what this revision was made of, and for rows
        that only the evaluation would read, before there is work that waits for them."""
        digest = self.shop.shelf.digest(recipes.read_by(self.job.steps, self.job.auto))
        for name in self._judged_on():
            self.shop.shelf.rows(name)
        if self.job.pinned_data not in (None, digest):
            raise Failure(
                "DataChanged",
                "The data of the steps no longer hold the rows of this revision. Put them back, or set spec.source.refresh "
                "to learn from what they hold now.",
            )
        return digest

    def _check_source(self, folder: Path) -> None:
        """What would keep the evidence from being taken is told before hours of training, not after: a first shape that the model
        cannot read; rows without labels, or with some that neither the head knows nor a FineTune learns. Raises `Failure`."""
        from .evidence import quality
        from .inference import fronts
        from .steps import describe

        tunings, rows = [step.fine_tune for step in self.job.steps if step.fine_tune], self.shop.shelf.rows
        virtual = sum(tuning.virtual_tokens for tuning in tunings if tuning.method in VIRTUAL)
        fronts.fitting(self.job.shapes, describe.foreseen(folder, self.job.task, virtual))
        if self.job.task not in LABELLED:
            return
        learnt = (str(label) for tuning in tunings for row in rows(tuning.data) for label in row.labels)
        known, compared = sorted({*head(folder), *learnt}), [self.job.auto.validation] if self.job.auto else []
        for name in (*compared, *self._judged_on()):
            quality.check(rows(name), known, name, counted=self._counted(name))

    def _check_students(self, source: Stage) -> None:
        """Whether students that are other models can learn from what the source will be, while the source still waits for its first
        step. Raises `Failure`."""
        if source.folder is None or self.shop.holds(self.job.steps[0], source):
            return
        for name in models.named_by(*self.job.steps):
            from .training import students

            students.check(name, self.shop.models.folder(name), source.folder, self.job.task)

    def _baseline(self, source: Stage, stages: Sequence[Stage], name: str) -> Stage:
        """The model as adapted, or else the source, as the fp32 graph that everything is compared with: the pipeline's own
        Export where nothing lies between, else one for this end, kept in the store like any step's. `name` is what the board shows."""
        types = [step.type for step in self.job.steps]
        adapted = types.index("FineTune") + 1 if "FineTune" in types else 0
        exported = types.index("Export")
        if adapted == exported and exported + 1 < len(stages):
            return stages[exported + 1]
        step = msgspec.structs.replace(self.job.steps[exported], name=BASELINE)
        return self.shop.made(step, source, stages[adapted], lambda _, word: self.board.percent(name, 0, word))

    def _search(self, auto: Auto, source: Stage, stages: list[Stage]) -> list[Stage]:
        """Find the steps that follow, and go on as if the user had written them. The stages that are theirs too."""
        from .search import Bench, Search

        self.board.start(SEARCH)
        baseline = self._baseline(source, stages, SEARCH)

        def graph(prune: Sequence[Step], told: Callable[[int, str], None]) -> Path:
            found = stages[-1]
            for step in (*prune, self.job.steps[-1]):
                found = self.shop.made(step, source, found, told)
            return self.shop.folder(found)

        size, files, rows = source.weights_bytes, self.shop.folder(baseline), self.shop.shelf.rows
        bench = Bench(self.job, auto, self.shop.work, self.shop.threads, size, files, graph, rows)
        told, digest = partial(self.board.percent, SEARCH), self.shop.shelf.digest(recipes.read_by((), auto))
        self.outcome = Search(bench, self.store, stages[-1].digest, digest, told).run()
        winner = self.outcome.result.winner or "the baseline is kept"
        self.board.end(SEARCH, "Done" if self.outcome.worked else "Cached", winner)
        self.job = msgspec.structs.replace(self.job, steps=self.outcome.steps)
        kept = stages[: len(self.job.steps)]
        self.board.follow([step.name for step in self.job.steps[len(kept) - 1 :]])
        return kept

    def _stop(self, source: Stage, until: str) -> Result:
        """The steps of this Job are done: another goes on."""
        pins = Pins(source.digest, self.data_digest, until, self.models)
        return Result("Succeeded", "StepsDone", f"step {until} is done", steps=self.board.steps, pins=pins)

    # Evaluate, judge, publish

    def _judge(self, source: Stage, stages: list[Stage]) -> Result:
        from .evidence.evaluate import evaluate, golden
        from .inference.answers import opened

        self.board.phase("Evaluate")
        self.board.start("Evaluate")
        baseline, final = self._baseline(source, stages, "Evaluate"), stages[-1]
        rows = {name: self._evidence(name) for name in self._judged_on()}
        ratio = final.weights_bytes / max(1, source.weights_bytes)
        told = partial(self.board.percent, "Evaluate")
        folders, place = [self.shop.folder(stage) for stage in (baseline, final)], self.job.accelerator
        base, best = (opened(folder, self.shop.threads, self.job.batching, place) for folder in folders)
        evidence = evaluate(base, best, rows, self.job.shapes, ratio, told, gates.blocks(self.job.gates))
        judged_on = {gate.name: recipes.gate_dataset(gate, self.job.data) for gate in self.job.gates}
        sampled = [name for name, measured in rows.items() if len(measured) < len(self.shop.shelf.rows(name))]
        verdicts = gates.judge(self.job.gates, evidence.measurements, judged_on, sampled)
        self.board.end("Evaluate", "Done", f"{evidence.figures.samples} samples")
        inputs, outputs = repository.interface(best.description)
        artifact = Artifact(
            digest=final.digest,
            bytes=self.store.manifest(final.digest).bytes,
            weights_bytes=final.weights_bytes,
            source_digest=source.digest,
            source_weights_bytes=source.weights_bytes,
            data_digest=self.data_digest,
            models=self.models,
            inputs=inputs,
            outputs=outputs,
            max_batch_size=evidence.max_batch_size,
            golden=golden(best),
        )
        made = [(stage.digest, stage.weights_bytes) for stage in stages[1:]]
        details = evidence.details | {"steps": self.shop.notes, "baseline": baseline.digest}
        return self._publish(artifact, verdicts, evidence.figures, details, made)

    def _judged_on(self) -> tuple[str, ...]:
        return recipes.evidence(self.job.steps, self.job.gates, self.job.data)

    def _judged(self) -> str:
        """What the rows say that the evidence is taken on."""
        return self.shop.shelf.digest(self._judged_on())

    def _evidence(self, name: str) -> list[Row]:
        """The rows to measure on: more of them where a gate counts right answers, which tell little each."""
        most = dataset.MAX_LABELLED_ROWS if self._counted(name) else dataset.MAX_ROWS
        return sample(self.shop.shelf.rows(name), most)

    def _counted(self, name: str) -> bool:
        """Whether a gate counts right answers on these rows; a search asks all gates on its own."""
        searched = self.job.auto is not None and name == self.job.auto.validation
        bars = (g for g in self.job.gates if g.metric in recipes.LABEL_METRICS)
        return any(searched or recipes.gate_dataset(gate, self.job.data) == name for gate in bars)

    def _publish(
        self, artifact: Artifact, verdicts: tuple[GateResult, ...], figures: Any, details: Any, made: Any
    ) -> Result:
        """Make the artifact count if its gates passed, and leave the report whatever they said."""
        self.board.phase("Publish")
        self.board.start("Publish")
        kept = self.outcome is not None and not self.outcome.result.winner
        bars = gates.of_a_kept_baseline(self.job.gates) if kept else {gate.name for gate in self.job.gates}
        missed = [v for v in verdicts if v.verdict != "Pass" and v.name in bars]
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
            result = Result("Succeeded", "NoFeasibleRecipe" if kept else "Published")
        self.board.phase("Done")
        result = msgspec.structs.replace(
            result, artifact=artifact, steps=self.board.steps, gates=verdicts, figures=figures, report=self.report_key
        )
        if self.outcome is not None:
            result = msgspec.structs.replace(result, search=self.outcome.result)
            details |= {"search": self.outcome.details}
        found = facts.report(self.job, self.shop.threads, made, result, details, self._judged())
        report.leave(self.store, self.report_key, found)
        return result


def _target(accelerator: Accelerator | None) -> Target:
    return Target("GPU", accelerator) if accelerator else Target()
