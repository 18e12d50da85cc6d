"""A Job whose graph is in the store begins at once: torch and transformers are for the steps that train and trace."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests import inputs
from tests.worker import jobs, tiny

from optimodel.api.contract import ExitCode
from optimodel.api.spec import Gate
from optimodel.api.steps import Export, Quantize, Step

GRAPH = Step("graph", "Export", export=Export())
HEAVY = ("torch", "transformers", "peft")
MAX_MB = 600
WATCH = """
import sys
from importlib.abc import MetaPathFinder
class Watch(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in {heavy!r}:
            with open({log!r}, "a") as log:
                print(name, *sys.argv, file=log)
sys.meta_path.insert(0, Watch())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("light")
    tiny.save("bert", made / "tiny")
    jobs.write_rows(made / "rows.jsonl", [(None, f"what is word{i} of word{i + 7}") for i in range(60)])
    (made / "store").mkdir()
    return made


@pytest.fixture
def imports(tmp_path, monkeypatch):
    """The file that says which heavy libraries any process of the Job looked for."""
    log = tmp_path / "imports.txt"
    log.touch()
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(WATCH.format(heavy=HEAVY, log=str(log)))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "hook"), os.environ.get("PYTHONPATH", "")]))
    return log


def job(folder, *steps, **changes):
    gates = (Gate("close", "CosineMean", data="d", min="0"),)
    data = (inputs.dataset(folder), inputs.dataset(folder, "seen", "seen.jsonl"))
    return inputs.job(folder, *steps, **({"task": "TextEmbedding", "gates": gates, "data": data} | changes))


def peak_mb(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@pytest.mark.timeout(300)
def test_a_job_that_starts_from_a_stored_graph_imports_no_torch(folder, workers, tmp_path, imports):
    jobs.write_rows(folder / "seen.jsonl", [(None, f"who wrote word{i}") for i in range(40)])
    code, first, log = jobs.fork(workers, job(folder, GRAPH), tmp_path / "first")
    assert code == ExitCode.OK, log
    subprocess.run([sys.executable, "-c", "import importlib.util as u; u.find_spec('torch')"], check=True)
    assert any(line.startswith("torch ") for line in imports.read_text().splitlines()), "the watch sees nothing"
    imports.write_text("")
    for settings in (
        Quantize(),
        Quantize(method="Static", data="seen"),
        Quantize(method="GPTQ", bits=4, data="seen"),
        Quantize(method="Float16"),
    ):
        small = Step(settings.method.lower(), "Quantize", quantize=settings)
        begun = time.monotonic()
        running = jobs.start(
            job(folder, GRAPH, small, pinned_source=first.artifact.source_digest), tmp_path / small.name, {}
        )
        for line in running.process.stdout:
            if f"{small.name}: started" in line:
                break
        seconds, megabytes = time.monotonic() - begun, peak_mb(running.process)
        code, result, log = running.finish()
        print(f"{settings.method}: work began after {seconds:.1f} s with a peak of {megabytes:.0f} MB")
        assert code == ExitCode.OK, log
        states = {s.name: s.state for s in result.steps}
        assert (states["Fetch"], states["graph"], states[small.name]) == ("Cached", "Cached", "Done")
        assert imports.read_text() == "", "a heavy library was imported"
        assert megabytes <= MAX_MB
