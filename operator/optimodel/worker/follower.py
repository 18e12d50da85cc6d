"""What every process of a Job but the first does: run the steps that it is called to, for the sake of the training in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from optimodel.api.contract import ExitCode, JobInput
from optimodel.artifacts import Store
from optimodel.artifacts.manifest import scan

from . import steps
from .board import log
from .data.shelf import Shelf
from .errors import Failure
from .peers import Call, Peers
from .source import check_folder, fetch
from .tasks import KINDS


def follow(job: JobInput, store: Store, work: Path, environ: Mapping[str, str], threads: int, peers: Peers) -> None:
    """Until the first process has no more for us. What fails of the step itself fails there too, and of a search it is a trial
    that is over. Raises `Failure` and `StoreError`."""
    shelf = Shelf(job.data, environ, KINDS[job.task].reader)
    for call in peers.calls():
        name = call.step.name
        log(f"{name}: called as process {peers.rank} of {peers.size}")
        context = steps.Context(
            job.task, threads, work, lambda *_: None, shelf.rows, work / "checkpoints" / name, peers=peers
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
    fetch(job.source, folder, environ, lambda *_: None)
    check_folder(folder, job.task, headless=True)
    if scan(folder).digest != call.input:
        message = "The source changed while the processes of the Job fetched it. Set spec.source.refresh."
        raise Failure("SourceChanged", message)
    return folder
