"""`python -m optimodel.worker`: run the Job that the environment describes; the exit code follows the contract."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path

import msgspec

from optimodel import __version__
from optimodel.api import contract
from optimodel.api.contract import ExitCode, JobInput, Result
from optimodel.artifacts import StoreError, ending, open_store

from . import system
from .board import Board, lines, log, serve
from .errors import Failure

WORK_ENV, PORT_ENV = "OPTIMODEL_WORK", "OPTIMODEL_PROGRESS_PORT"
"""Other places than the contract's for scratch space and the progress page (runs outside a pod)."""

_OTHER_RELEASE = (
    "The worker's image holds optimodel {}, and the operator is {}. The platform's team brings all images of the chart to one "
    "release; the Job is then tried again."
)


def main() -> int:
    """Run, leave the result in the termination message, and return the exit code."""
    try:
        release = msgspec.json.decode(os.environ[contract.JOB_ENV], type=contract.Sender).release
        if release not in ("", __version__):
            return ending.fail("worker", "ReleaseMismatch", _OTHER_RELEASE.format(__version__, release), True)
        job = msgspec.json.decode(os.environ[contract.JOB_ENV], type=JobInput)
    except (KeyError, msgspec.DecodeError) as error:
        return ending.fail("worker", "BadInput", f"{contract.JOB_ENV} is missing or cannot be read: {error}", False)
    board = Board(lines(job))
    system.on_terminate(
        lambda: _finish(Result("Failed", "Interrupted", "The Job was told to stop."), ExitCode.WORLD, board)
    )
    os.environ.update({"HF_HUB_OFFLINE": "0", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": str(system.cpus())})
    server = serve(board, int(os.environ.get(PORT_ENV, contract.PROGRESS_PORT)))
    base = Path(os.environ.get(WORK_ENV, contract.WORK_MOUNT))
    work = Path(tempfile.mkdtemp(prefix="job-", dir=base))
    try:
        result, code = _run(job, board, work, os.environ)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        server.server_close()
    return _finish(result, code, board)


def _run(job: JobInput, board: Board, work: Path, environ: Mapping[str, str]) -> tuple[Result | None, ExitCode]:
    """Every way to end is a result, but a process that only followed has none. A defect of ours is told with its last lines."""
    from . import peers
    from .follower import follow
    from .pipeline import Pipeline  # only now: numpy's threads have to inherit the mask of on_terminate
    from .workshop import Workshop

    log(f"{job.namespace}/{job.model} revision {job.revision}, evaluation {job.evaluation}, {system.cpus()} CPUs")
    try:
        store = open_store(job.artifacts, job.namespace, environ)
        found = peers.join(job.processes, environ, sharded=job.parallelism == "FSDP")
        if found.rank:
            follow(job, store, work, environ, system.cpus(), found)
            return None, ExitCode.OK
        try:
            result = Pipeline(Workshop(job, store, board, work, environ, system.cpus(), found)).run()
        finally:
            found.end()
        return result, ExitCode.OK if result.outcome == "Succeeded" else ExitCode.GATE
    except Failure as failure:
        return _failed(failure.reason, failure.message, board), failure.code
    except StoreError as error:
        return _failed(error.reason, str(error), board), ExitCode.WORLD if error.world else ExitCode.SPEC
    except Exception as error:
        traceback.print_exc()
        message = f"{type(error).__name__}: {str(error)[:400]}. See the worker's log."
        return _failed("InternalError", message, board), ExitCode.INTERNAL


def _failed(reason: str, message: str, board: Board) -> Result:
    board.fail_running(reason)
    return Result("Failed", reason, message, steps=board.steps)


def _finish(result: Result | None, code: ExitCode, board: Board) -> int:
    if result is None:
        return int(code)
    if not result.steps:
        result = msgspec.structs.replace(result, steps=board.steps)
    ending.leave(result)
    log(f"{result.outcome}: {result.reason} {result.message}".rstrip())
    return int(code)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # libraries' threads have nothing left to say
