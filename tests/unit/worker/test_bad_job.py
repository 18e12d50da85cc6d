"""A Job whose description is none ends at once, by name, and touches nothing."""

from __future__ import annotations

import json

import msgspec
import pytest

from optimodel.api import contract
from optimodel.api.contract import ExitCode, JobInput, Result
from optimodel.api.sources import S3, Artifacts, Source
from optimodel.api.steps import Distill, FineTune, Prune, Quantize, Step
from optimodel.artifacts import ending
from optimodel.worker.__main__ import main

JOB = JobInput(
    model="m",
    namespace="team-a",
    revision="r1",
    evaluation="e1",
    task="TextClassification",
    source=Source(s3=S3("s3://models/m")),
    artifacts=Artifacts(s3=S3("s3://store/m")),
    steps=(
        Step("adapt", "FineTune", fine_tune=FineTune("d")),
        Step("small", "Distill", distill=Distill("d")),
        Step("thin", "Prune", prune=Prune()),
        Step("graph", "Export"),
        Step("int8", "Quantize", quantize=Quantize()),
    ),
)


def changed(*path, to):
    """The Job's JSON with one value changed."""
    document = json.loads(contract.encode(JOB))
    place = document
    for key in path[:-1]:
        place = place.setdefault(key, {}) if isinstance(key, str) else place[key]
    place[path[-1]] = to
    return json.dumps(document)


BAD = {
    "nothing": None,
    "no-json": "{",
    "a-list": "[]",
    "task": changed("task", to="Translation"),
    "no-steps": changed("steps", to=None),
    "type": changed("steps", 0, "type", to="Shrink"),
    "epochs": changed("steps", 0, "fineTune", "training", to={"epochs": "three"}),
    "method": changed("steps", 0, "fineTune", "method", to="Magic"),
    "no-data": changed("steps", 0, "fineTune", to={}),
    "layers": changed("steps", 1, "distill", "keepLayers", to=["last"]),
    "number": changed("steps", 1, "distill", "soft", to=0.7),
    "prune": changed("steps", 2, "prune", "method", to="Attention"),
    "format": changed("steps", 3, "export", to={"format": "GGUF"}),
    "bits": changed("steps", 4, "quantize", "bits", to=7),
    "part": changed("steps", 4, "quantize", "exclude", to=["Pooler"]),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_job_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.setenv(ending.PATH_ENV, str(tmp_path / "log"))
    monkeypatch.delenv(contract.JOB_ENV, raising=False)
    if BAD[name] is not None:
        monkeypatch.setenv(contract.JOB_ENV, BAD[name])
    assert main() == ExitCode.SPEC
    result = msgspec.json.decode((tmp_path / "log").read_bytes(), type=Result)
    assert (result.outcome, result.reason) == ("Failed", "BadInput") and contract.JOB_ENV in result.message
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_job_of_another_release_is_left_to_a_worker_of_that(tmp_path, monkeypatch):
    monkeypatch.setenv(ending.PATH_ENV, str(tmp_path / "log"))
    other = msgspec.to_builtins(msgspec.structs.replace(JOB, release="99.0.0")) | {"parallelism": "Pipeline"}
    monkeypatch.setenv(contract.JOB_ENV, msgspec.json.encode(other).decode())
    assert main() == ExitCode.WORLD
    result = msgspec.json.decode((tmp_path / "log").read_bytes(), type=Result)
    assert result.reason == "ReleaseMismatch" and "99.0.0" in result.message
