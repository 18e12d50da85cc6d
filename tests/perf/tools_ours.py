"""`python -m tests.perf.tools_ours apply -f model.yaml`: what the operator's Job does with this spec, on the rows of this folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import yaml
from devcluster.paths import REPO

from optimodel.api import contract
from optimodel.api.contract import JobInput, Result
from optimodel.api.sources import S3, Artifacts, Source
from optimodel.api.spec import Optimization, OptimizedModelSpec, RecipeSpec
from optimodel.artifacts import open_store
from optimodel.recipes.resolve import resolve

RECIPES = REPO / "charts" / "optimodel" / "files" / "recipes"


def job(text: str, place: Path) -> JobInput:
    """The Job of a spec, with the folder's model, rows and store in place of the cluster's."""
    given: dict[str, Any] = yaml.safe_load(text)
    for data in given.get("data", ()):
        data["s3"] = {"url": f"file://{place / data['name']}.jsonl"}
    where = {"s3": {"url": f"file://{place}/model"}}, {"s3": {"url": f"file://{place}/store"}}
    spec = msgspec.convert(given | {"source": where[0], "artifacts": where[1]}, OptimizedModelSpec)
    chosen = _resolved(spec)
    return JobInput(
        model="m",
        namespace="bench",
        revision="r1",
        evaluation="e1",
        task=spec.task,
        source=Source(s3=S3(where[0]["s3"]["url"])),
        artifacts=Artifacts(s3=S3(where[1]["s3"]["url"])),
        steps=chosen.steps,
        auto=chosen.auto,
        gates=chosen.gates,
        data=spec.data,
        shapes=chosen.target.shapes,
    )


def _resolved(spec: OptimizedModelSpec) -> Optimization:
    """What the spec asks for, with the steps of its recipe."""
    own = spec.optimization
    if own.recipe_ref is None:
        return own
    recipe = yaml.safe_load((RECIPES / f"{own.recipe_ref.name}.yaml").read_text())
    found = resolve(spec.task, own, msgspec.convert(recipe["spec"], RecipeSpec))
    if found.problems:
        raise SystemExit(found.problems[0].message)
    return found.optimization


def main() -> None:
    """Run the worker as its container would, and lay the artifact into `out/`."""
    place = Path.cwd()
    wanted = job((place / sys.argv[-1]).read_text(), place)
    for name in ("store", "work"):
        (place / name).mkdir(exist_ok=True)
    message = place / "termination-log"
    environ = {
        contract.JOB_ENV: contract.encode(wanted),
        "OPTIMODEL_WORK": str(place / "work"),
        "OPTIMODEL_TERMINATION_LOG": str(message),
        "OPTIMODEL_PROGRESS_PORT": "0",
    }
    subprocess.run([sys.executable, "-m", "optimodel.worker"], env=os.environ | environ, check=False)
    result = msgspec.json.decode(message.read_bytes(), type=Result)
    if result.artifact is None or result.outcome != "Succeeded":
        raise SystemExit(f"Error: {result.reason}: {result.message}")
    open_store(wanted.artifacts, wanted.namespace, {}).fetch(result.artifact.digest, place / "out")
    chosen = {"reason": result.reason, "search": msgspec.to_builtins(result.search)}
    (place / "chosen.json").write_text(json.dumps(chosen))


if __name__ == "__main__":
    main()
