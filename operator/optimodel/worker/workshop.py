"""Makes the stages of the path, or finds them in the store: the source, and what each step made of the one before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from optimodel import recipes
from optimodel.api.contract import ExitCode, JobInput
from optimodel.api.steps import Step
from optimodel.artifacts import StepEntry, Store
from optimodel.recipes import data
from optimodel.recipes.models import named_by

from . import steps
from .board import Board, log
from .checkpoints import Checkpoint
from .data.shelf import Shelf
from .errors import Failure
from .peers import ALONE, Call, Peers
from .source import Models, resolve, weight_bytes
from .tasks import KINDS


class SourceFacts(msgspec.Struct, frozen=True, rename="camel"):
    """What is remembered of a source, so that it need not be fetched again."""

    weights_bytes: int


@dataclass
class Stage:
    """A folder of the path: its digest, and where it lies once somebody needs it."""

    digest: str
    folder: Path | None = None
    weights_bytes: int = 0


class Workshop:
    """Of one Job. `work` is scratch space; `peers` are the processes that train together, of which this is the first."""

    def __init__(
        self,
        job: JobInput,
        store: Store,
        board: Board,
        work: Path,
        environ: Mapping[str, str],
        threads: int,
        peers: Peers = ALONE,
    ) -> None:
        self.job, self.store, self.board, self.work = job, store, board, work
        self.environ, self.threads, self.peers = environ, threads, peers
        self.shelf = Shelf(job.data, environ, KINDS[job.task].reader)
        self.models = Models(job.models, job.task, work / "models", environ, job.pinned_models)
        self.notes: dict[str, Any] = {}
        """What steps said of themselves, by their names."""

    def _key(self, step: Step, digest: str, made_for: str = "") -> str:
        rows, models = self.shelf.digest(data.references(step)), self.models.digests(named_by(step))
        return steps.key(step, digest, self.job.task, rows, made_for, models)

    def _own_key(self, step: Step, digest: str) -> str:
        """Where the Jobs of a revision tell each other of a step, for their images may have other versions of its tools."""
        return self._key(step, digest, self.job.revision)

    def _known(self, step: Step, digest: str) -> StepEntry | None:
        """What the step made of this input for this revision, or for any by the same versions of its tools."""
        own = self._own_key(step, digest)
        if entry := self.store.step(own):
            return entry
        entry = self.store.step(self._key(step, digest))
        return self.store.remember(own, entry) if entry else None

    def holds(self, step: Step, before: Stage) -> bool:
        """Whether what the step makes of this stage is in the store."""
        return self._known(step, before.digest) is not None

    def source(self) -> Stage:
        """The source, beside which other models are resolved: its digest is enough where the first step is in the store."""
        pinned = self.job.pinned_source
        if pinned and self._known(self.job.steps[0], pinned):
            facts = self.store.read(_facts_key(pinned), SourceFacts)
            if facts:
                self.board.end("Fetch", "Cached", "what is made of it is in the store", facts.weights_bytes)
                return Stage(pinned, None, facts.weights_bytes)
        return self._fetch()

    def _fetch(self) -> Stage:
        self.board.start("Fetch")
        job, folder, told = self.job, self.work / "source", partial(self.board.percent, "Fetch")
        headless, pinned = job.steps[0].type == "FineTune", job.pinned_source
        digest = resolve(job.source, job.task, folder, self.environ, told, headless=headless, pinned=pinned)
        self.models.digests(named_by(*job.steps), told)
        stage = Stage(digest, folder, weight_bytes(folder))
        self.store.write(_facts_key(digest), SourceFacts(stage.weights_bytes))
        self.board.end("Fetch", "Done", digest[:19], stage.weights_bytes)
        return stage

    def step(self, step: Step, source: Stage, before: Stage) -> Stage:
        """What a step makes, told on the board. Raises `Failure` and `StoreError`."""
        key = self._key(step, before.digest)
        if entry := self._known(step, before.digest):
            self.board.end(step.name, "Cached", entry.output[:19], entry.weights_bytes)
            Checkpoint(self.store, key, self.work).clear()
            return self._found(step, entry)
        self.board.start(step.name)
        stage = self._run(step, key, source, before, partial(self.board.percent, step.name))
        self.board.end(step.name, "Done", stage.digest[:19], stage.weights_bytes)
        return stage

    def made(self, step: Step, source: Stage, before: Stage, report: Callable[[int, str], None]) -> Stage:
        """What a step makes that is not on the board, found in the store or done now."""
        entry = self._known(step, before.digest)
        if entry:
            return self._found(step, entry)
        return self._run(step, self._key(step, before.digest), source, before, report)

    def _found(self, step: Step, entry: StepEntry, folder: Path | None = None) -> Stage:
        if entry.notes:
            self.notes[step.name] = msgspec.json.decode(entry.notes)
        return Stage(entry.output, folder, entry.weights_bytes)

    def _run(self, step: Step, key: str, source: Stage, before: Stage, report: Callable[[int, str], None]) -> Stage:
        """Do the work of a step, and remember it in the store."""
        folder = self.folder(before) if before is not source else self._source_folder(source)
        out = self.work / "steps" / key[:16]
        checkpoint = Checkpoint(self.store, key, self.work / "checkpoints" / key)
        notes: dict[str, Any] = {}
        context = steps.Context(
            self.job.task,
            self.threads,
            self.work,
            report,
            self.shelf.rows,
            checkpoint.folder,
            note=notes.__setitem__,
            keep=checkpoint.keep,
            due=checkpoint.due,
            peers=self.peers,
            accelerator=self.job.accelerator,
            model=self.models.folder,
        )
        if checkpoint.bring():
            log(f"{step.name}: goes on from a checkpoint")
        if recipes.trains(step):
            self.peers.call(Call(step, before.digest, before is source, self.models.digests(named_by(step))))
        try:
            steps.run(step, folder, out, context)
        except Failure as failure:
            if failure.code == ExitCode.SPEC:  # it would end the same way from there
                checkpoint.drop()
            raise
        digest = self.store.publish(out).digest
        weights = weight_bytes(out)
        told = msgspec.json.encode(notes).decode() if notes else ""
        entry = self.store.remember(key, StepEntry(step.type, before.digest, digest, weights, told))
        entry = self.store.remember(self._own_key(step, before.digest), entry)
        checkpoint.drop()
        return self._found(step, entry, out if entry.output == digest else None)

    def _source_folder(self, source: Stage) -> Path:
        if source.folder is None:  # its steps were in the store a moment ago, and no longer are
            source.folder = self._fetch().folder
        assert source.folder is not None
        return source.folder

    def folder(self, stage: Stage) -> Path:
        """The stage's files, fetched from the store and verified where they are not at hand."""
        if stage.folder is None:
            stage.folder = self.work / f"stored-{stage.digest[7:19]}"
            if not stage.folder.exists():
                self.store.fetch(stage.digest, stage.folder)
        return stage.folder


def _facts_key(digest: str) -> str:
    return f"sources/{digest.removeprefix('sha256:')}.json"
