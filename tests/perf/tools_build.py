"""Building the variants of `make bench-tools`: each in a process of its own, with the tool's own libraries, timed and bounded."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from devcluster import sites
from devcluster.paths import REPO
from tests.perf.tools_arms import Arm

MODULES = {
    "optimum-cli": ["-m", "optimum.commands.optimum_cli"],
    "olive": ["-m", "olive"],
    "kubectl": ["-m", "tests.perf.tools_ours"],
    "python": [],
}
"""The programs that people type, as arguments of this Python. `kubectl apply` is a run of the worker on the spec."""
OUT_OF_TIME = 124
KEPT = ("model", "train.jsonl", "validation.jsonl", "questions.jsonl")


class Built(msgspec.Struct, frozen=True):
    """What a build cost. `failure` is empty, or says why there is no graph."""

    seconds: float
    cpu_seconds: float
    peak_mib: int
    megabytes: float = 0.0
    failure: str = ""


def folder(sources: Path, place: Path, arm: Arm) -> None:
    """A fresh folder with what the commands read: `sources` holds the model and the rows."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for name in KEPT:
        (place / name).symlink_to(sources / name)
    for name, text in arm.files.items():
        (place / name).write_text(text)


def build(arm: Arm, sources: Path, place: Path, budget: float) -> Built:
    """Run the arm's commands, at most `budget` seconds in all; the result of an earlier run with the same input is taken."""
    kept = place / "built.json"
    form = json.dumps([arm.commands, dict(arm.files)])
    if kept.exists() and (place / "form.json").read_text() == form:
        return msgspec.json.decode(kept.read_bytes(), type=Built)
    folder(sources, place, arm)
    began, end = time.monotonic(), time.monotonic() + budget
    cpu, peak, failure = 0.0, 0, ""
    for command in arm.commands:
        code, used, most = _run(arm, command, place, end)
        cpu, peak = cpu + used, max(peak, most)
        if code:
            failure = _cause(place / "log", code)
            break
    graph = place / arm.graph
    if not failure and not graph.exists():
        failure = f"exit code 0, and no {arm.graph}: {_cause(place / 'log', 0)}"
    size = (
        0.0 if failure else sum(f.stat().st_size for f in graph.parent.glob(f"{graph.stem}.*") if f.suffix != ".json")
    )
    found = Built(time.monotonic() - began, cpu, peak, size / 1e6, failure)
    (place / "form.json").write_text(form)
    kept.write_bytes(msgspec.json.encode(found))
    return found


def environment(site: str) -> dict[str, str]:
    """Variables under which a site's libraries, and no others, are found; one thread, and no network."""
    path = sites.beside(site) if site.startswith("bench-") else sites.site(site)
    own = [str(REPO / "operator"), str(REPO)] if site == "worker" else []
    fixed = {
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }
    kept = {name: os.environ[name] for name in ("PATH", "OPTIMODEL_CACHE") if name in os.environ}
    return kept | fixed | {"PYTHONPATH": os.pathsep.join([*own, str(path)]), "PYTHONDONTWRITEBYTECODE": "1"}


def _run(arm: Arm, command: str, place: Path, end: float) -> tuple[int, float, int]:
    """Exit code, CPU seconds and peak MiB of one command and its children; none of them is left behind."""
    program, *arguments = shlex.split(command)
    full = [sites.interpreter(), *MODULES[program], *arguments]
    environ = environment(arm.site) | {"HOME": str(place), "OLIVE_DISABLE_TELEMETRY": "1"}
    with (place / "log").open("ab") as log:
        process = subprocess.Popen(full, cwd=place, env=environ, stdout=log, stderr=log, start_new_session=True)
        try:
            while True:
                found, status, usage = os.wait4(process.pid, os.WNOHANG)
                if found:
                    process.returncode = os.waitstatus_to_exitcode(status)
                    return process.returncode, usage.ru_utime + usage.ru_stime, usage.ru_maxrss >> 10
                if time.monotonic() > end:
                    return OUT_OF_TIME, 0.0, 0
                time.sleep(0.05)
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _cause(log: Path, code: int) -> str:
    """The last error that the tool's log tells."""
    if code == OUT_OF_TIME:
        return "out of time"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    told = [line for line in lines if "Error" in line or "error" in line or "Exception" in line]
    return (told or lines or ["no word"])[-1][:200]


def gigabytes(site: str, without: Sequence[str] = ()) -> float:
    """Installed size of a site, less the files of the packages whose names begin with one of `without`."""
    from importlib.metadata import distributions

    path = sites.beside(site) if site.startswith("bench-") else sites.site(site)
    total = 0
    for found in distributions(path=[str(path)]):
        if not found.name.lower().startswith(tuple(without) or ("\0",)):
            files = {Path(str(found.locate_file(file))) for file in found.files or ()}
            total += sum(file.stat().st_size for file in files if file.is_file())
    return total / 1e9
