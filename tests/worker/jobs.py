"""Run a worker as its Job would: a process with the contract's environment, and the result that it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import msgspec
from tests.seaweed import free_port
from tests.worker import forks

from optimodel.api import contract
from optimodel.api.contract import JobInput, Progress, Result


@dataclass
class Run:
    """A worker process and where it leaves things."""

    process: subprocess.Popen[str]
    folder: Path
    port: int

    def progress(self) -> Progress | None:
        """The page, if it answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/progress", timeout=2) as answer:
                return msgspec.json.decode(answer.read(), type=Progress)
        except OSError:
            return None

    def finish(self, timeout: float = 300) -> tuple[int, Result, str]:
        """Exit code, result and log."""
        log, _ = self.process.communicate(timeout=timeout)
        data = (self.folder / "termination-log").read_bytes()
        assert len(data) <= contract.TERMINATION_LIMIT
        return self.process.returncode, msgspec.json.decode(data, type=Result), log


def environment(job: JobInput, folder: Path, port: int) -> dict[str, str]:
    """What a pod would tell the worker; `folder` is its scratch space, and `port` that of its progress page."""
    return {
        contract.JOB_ENV: contract.encode(job),
        "OPTIMODEL_WORK": str(folder),
        "OPTIMODEL_TERMINATION_LOG": str(folder / "termination-log"),
        "OPTIMODEL_PROGRESS_PORT": str(port),
        "HOME": str(folder),
    }


def start(job: JobInput, folder: Path, environ: dict[str, str]) -> Run:
    """Start a worker."""
    folder.mkdir(exist_ok=True)
    (folder / "termination-log").unlink(missing_ok=True)
    port = free_port()
    code = {"PYTHONPATH": os.pathsep.join(["operator", os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "optimodel.worker"]
    full = {**os.environ, **environ, **code, **environment(job, folder, port)}
    out = subprocess.PIPE
    return Run(subprocess.Popen(command, env=full, stdout=out, stderr=subprocess.STDOUT, text=True), folder, port)


def run(job: JobInput, folder: Path, environ: dict[str, str] | None = None) -> tuple[int, Result, str]:
    """Run a worker to its end."""
    return start(job, folder, environ or {}).finish()


def fork(
    workers: forks.Server, job: JobInput, folder: Path, environ: dict[str, str] | None = None
) -> tuple[int, Result, str]:
    """Run a worker to its end without waiting for its imports: exit code, result and log."""
    folder.mkdir(exist_ok=True)
    log, message = folder / "log", folder / "termination-log"
    for path in (log, message):
        path.unlink(missing_ok=True)
    code = workers.run(forks.Order(str(log), (environ or {}) | environment(job, folder, free_port())))
    return code, msgspec.json.decode(message.read_bytes(), type=Result), log.read_text()


def write_rows(path: Path, rows: list[tuple[str | int | None, str]]) -> None:
    """A dataset of (label, text)."""
    lines = [json.dumps({"text": text} | ({"label": label} if label is not None else {})) for label, text in rows]
    path.write_text("\n".join(lines) + "\n")
