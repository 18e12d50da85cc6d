"""An API server that has our kinds, and small specs for it."""

import json
import subprocess
from pathlib import Path
from typing import Any

from devcluster.binaries import binary

S3 = {"url": "s3://bucket/prefix"}
Object = dict[str, Any]


class Cluster:
    """kubectl on an API server of its own."""

    def __init__(self, kubeconfig: Path) -> None:
        self._command = [str(binary("kubectl")), f"--kubeconfig={kubeconfig}"]

    def kubectl(self, *arguments: str, document: Object | None = None) -> subprocess.CompletedProcess[str]:
        text = json.dumps(document) if document is not None else None
        return subprocess.run([*self._command, *arguments], input=text, capture_output=True, text=True, timeout=60)

    def must(self, *arguments: str, document: Object | None = None) -> str:
        done = self.kubectl(*arguments, document=document)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def try_create(self, document: Object, *flags: str) -> subprocess.CompletedProcess[str]:
        return self.kubectl("create", "--dry-run=server", "-o", "json", *flags, "-f", "-", document=document)

    def refusal(self, document: Object) -> str:
        done = self.try_create(document)
        assert done.returncode != 0, "accepted"
        return done.stderr

    def accepted(self, document: Object) -> Object:
        done = self.try_create(document)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def model(**changes: Any) -> Object:
    """A small valid object; keyword `a__b=x` sets spec.a.b."""
    spec: Object = {"task": "TextEmbedding", "source": {"s3": dict(S3)}, "artifacts": {"s3": dict(S3)}}
    for path, value in changes.items():
        *parents, last = path.split("__")
        at = spec
        for name in parents:
            at = at.setdefault(name, {})
        at[last] = value
    return {
        "apiVersion": "optimodel.dev/v1alpha1",
        "kind": "OptimizedModel",
        "metadata": {"name": "m", "namespace": "team-a"},
        "spec": spec,
    }


def step(kind: str, **settings: Any) -> Object:
    """A model with one step."""
    return model(optimization__steps=[{"name": "a", "type": kind, **settings}])


def recipe(*steps: Object, **spec: Any) -> Object:
    """A recipe with these steps."""
    return {
        "apiVersion": "optimodel.dev/v1alpha1",
        "kind": "OptimizationRecipe",
        "metadata": {"name": "r", "namespace": "team-a"},
        "spec": {"steps": list(steps), **spec},
    }


def named(name: str) -> Object:
    document = model()
    document["metadata"]["name"] = name
    return document


def canary(*weights: int) -> Object:
    steps = [{"name": f"s{i}", "weight": w} for i, w in enumerate(weights)]
    return model(rollout__steps=steps, rollout__router={"parentRefs": [{"name": "inference"}]})
