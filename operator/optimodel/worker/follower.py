"""What every process of a Job but the first does: run the steps that it is called to, for the sake of the training in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from optimodel.api.contract import ExitCode, JobInput
from optimodel.artifacts import Store

from . import steps
from .board import log
from .data.shelf import Shelf
from .errors import Failure
from .peers import Call, Peers
from .source import Models, resolve
from .tasks import KINDS


def follow(job: JobInput, store: Store, work: Path, environ: Mapping[str, str], threads: int, peers: Peers) -> None:
    """Until the first process has no more for us. What fails of the step itself fails there too, and of a search it is a trial
    that is over. Raises `Failure` and `StoreError`."""
    shelf = Shelf(job.data, environ, KINDS[job.task].reader)
    for call in peers.calls():
        name = call.step.name
        log(f"{name}: called as process {peers.rank} of {peers.size}")
        models = Models(job.models, job.task, work / f"models-{name}", environ, call.models)
        context = steps.Context(
            job.task,
            threads,
            work,
            lambda *_: None,
            shelf.rows,
            work / "checkpoints" / name,
            peers=peers,
            model=models.folder,
        )
        source, out = _input(call, job, store, work, environ), work / "steps" / f"{name}-{call.input[7:19]}"
        try:
            steps.run(call.step, source, out, context)
        except Failure as failure:
            if failure.code == ExitCode.WORLD or job.auto is None:
                raise
            log(f"{name}: {failure.reason}: {failure.message}")


def _input(call: Call, job: JobInput, store: Store, work: Path, environ: Mapping[str, str]) -> Path:
    """The files that the first process works on, by their digest."""
    folder = work / call.input.removeprefix("sha256:")[:12]
    if folder.exists():
        return folder
    if not call.is_source:
        store.fetch(call.input, folder)
        return folder
    resolve(job.source, job.task, folder, environ, lambda *_: None, headless=True, pinned=call.input)
    return folder
