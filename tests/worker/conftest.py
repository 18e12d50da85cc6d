"""What the worker's tests share: processes that start at once, and graphs that are exported once."""

from __future__ import annotations

import functools
import subprocess
from types import SimpleNamespace

import pytest
from tests.worker import forks

from optimodel.worker.steps import technique


@pytest.fixture(scope="session")
def workers():
    """Forks workers, whose libraries are imported once for all tests."""
    with forks.Server() as server:
        yield server


@pytest.fixture(scope="session", autouse=True)
def quick_proofs(workers, tmp_path_factory):
    """Results are proved in forked processes too, unless a test asks for `fresh` ones."""
    log = tmp_path_factory.mktemp("proofs") / "log"

    def run(command, **_):
        log.unlink(missing_ok=True)
        code = workers.run(forks.Order(str(log), proof=tuple(command[3:])))
        return subprocess.CompletedProcess(command, code, log.read_text(), log.read_text())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(technique, "subprocess", SimpleNamespace(run=run))
        yield


@pytest.fixture
def fresh(monkeypatch):
    """Results are proved as a Job proves them: in a new process that imports for itself."""
    monkeypatch.setattr(technique, "subprocess", subprocess)


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """`exported(kind, task)`: a folder with a tiny model, `source`, and its graph, `graph`. Copy what you change."""
    from tests.worker import tiny

    from optimodel.api.steps import Step
    from optimodel.worker import steps

    @functools.cache
    def made(kind, task):
        folder = tmp_path_factory.mktemp(kind)
        tiny.save(kind, folder / "source", tiny.LABELS if task == "TextClassification" else None)
        steps.run(Step("graph", "Export"), folder / "source", folder / "graph", tiny.context(task, folder))
        return folder

    return made


@pytest.fixture
def unproven(monkeypatch):
    """Results are not proved at all: for tests of what a step learns, where another has the proof."""
    monkeypatch.setattr(technique, "verify", lambda *args, **options: {})
