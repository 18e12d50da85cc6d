"""An event of a shared object reaches the models that name it, and no others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from optimodel.handlers import Key, Router, new_store
from optimodel.machinery.queue import WorkQueue

SHARED = [
    ("OptimizationRecipe", "a", {"optimization": {"recipeRef": {"kind": "OptimizationRecipe", "name": "x"}}}),
    ("ClusterOptimizationRecipe", "", {"optimization": {"recipeRef": {"name": "x"}}}),
    ("TritonRuntime", "a", {"serving": {"runtimeRef": {"kind": "TritonRuntime", "name": "x"}}}),
    ("ClusterTritonRuntime", "", {"serving": {"runtimeRef": {"name": "x"}}}),
]


def obj(kind: str, namespace: str, name: str, version: int, spec: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace, "uid": f"{kind}-{namespace}-{name}", "resourceVersion": str(version)}
    return {"kind": kind, "metadata": {k: v for k, v in meta.items() if v}, "spec": spec}


def drained(queue: WorkQueue[Key]) -> list[Key]:
    async def take() -> list[Key]:
        found = [await queue.get() for _ in range(queue.depth)]
        for key in found:
            queue.done(key)
        return sorted(found)

    return asyncio.run(take())


@pytest.mark.parametrize(("kind", "namespace", "uses"), SHARED, ids=[s[0] for s in SHARED])
def test_its_users_are_queued_when_it_comes_changes_and_goes(kind: str, namespace: str, uses: dict[str, Any]) -> None:
    queue: WorkQueue[Key] = WorkQueue()
    router = Router(new_store(), queue)
    for at, spec in ((("a", "user"), uses), (("a", "other"), {}), (("b", "elsewhere"), uses)):
        router.ingest("OptimizedModel", "ADDED", obj("OptimizedModel", *at, 1, spec))
    assert len(drained(queue)) == 3
    users = [("a", "user")] + ([("b", "elsewhere")] if namespace == "" else [])
    for version, event in ((2, "ADDED"), (3, "MODIFIED"), (4, "DELETED")):
        router.ingest(kind, event, obj(kind, namespace, "x", version, {}))
        assert drained(queue) == users
        router.ingest(kind, event, obj(kind, namespace, "y", version, {}))
        assert drained(queue) == []
