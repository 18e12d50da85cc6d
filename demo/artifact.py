"""A published artifact, taken from the store as a serving pod takes it."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from devcluster import addons, sites

from demo import stage
from optimodel.api.contract import credential_env
from optimodel.api.spec import Artifacts
from optimodel.artifacts.opening import open_store

Obj = dict[str, Any]


def of(kubectl: stage.Kubectl, namespace: str, revision: str) -> Obj:
    """The artifact that a ModelRevision names. Raises LookupError while it names none."""
    found = kubectl.get("modelrevision", namespace, revision)
    artifact = (found or {}).get("status", {}).get("artifact")
    if not artifact:
        raise LookupError(f"ModelRevision {revision} names no artifact")
    return dict(artifact)


def store(namespace: str, location: Obj) -> Any:
    """The store of a namespace, opened from this machine."""
    s3 = {**location, "endpoint": os.environ.get("OPTIMODEL_S3", addons.S3)}
    artifacts = msgspec.convert({"s3": s3}, Artifacts)
    names = credential_env("store")
    return open_store(artifacts, namespace, {names[key]: value for key, value in stage.KEYS.items()})


def answers(namespace: str, location: Obj, digest: str, texts: Sequence[str]) -> list[list[float]]:
    """The artifact's own answers: fetched, verified, and run with ONNX Runtime in a process beside this one."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, asked, told = (Path(scratch) / name for name in ("artifact", "texts.json", "answers.json"))
        store(namespace, location).fetch(digest, folder)
        asked.write_text(json.dumps(list(texts)))
        script = Path(__file__).with_name("reference.py")
        command = [sites.interpreter(), str(script), str(folder), str(asked), str(told)]
        environ = {**os.environ, "PYTHONPATH": str(sites.site("worker"))}
        subprocess.run(command, check=True, env=environ, timeout=300)
        return list(json.loads(told.read_text()))
