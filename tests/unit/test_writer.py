"""What the writer does where the store lags behind the cluster."""

from __future__ import annotations

from typing import Any

from optimodel.api import names
from optimodel.errors import Conflict
from optimodel.machinery.store import Store
from optimodel.plan.types import Plan
from optimodel.writer import MODEL, Writer

LABELS = names.labels("m", "optimize", "abc")
JOB: dict[str, Any] = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "m-abc-a1", "namespace": "a", "labels": LABELS},
    "spec": {"suspend": True},
}


class Cluster:
    """An API server with one Job that the store has not seen yet, and that Kueue has admitted since."""

    def __init__(self) -> None:
        meta = JOB["metadata"] | {"uid": "j", "resourceVersion": "5", "ownerReferences": [{"uid": "m"}]}
        self.job = {**JOB, "metadata": meta, "spec": {"suspend": False}}

    async def apply(self, manifest: Any, force: bool = True, manager: str = names.FIELD_MANAGER) -> Any:
        if not force:
            raise Conflict("spec.suspend belongs to kueue")
        self.job["spec"] = manifest["spec"]
        return self.job

    async def get(self, kind: str, namespace: str, name: str) -> Any:
        return self.job


async def test_a_job_that_is_there_keeps_what_kueue_set() -> None:
    store = Store({"owner": lambda kind, obj: []})
    store.put(MODEL, {"kind": MODEL, "metadata": {"name": "m", "namespace": "a", "uid": "m", "resourceVersion": "1"}})
    cluster = Cluster()
    writer = Writer(cluster, store, lambda *_: None)  # type: ignore[arg-type]
    await writer.write(("a", "m"), Plan(apply=(JOB,)))
    assert cluster.job["spec"] == {"suspend": False}
    seen = store.get("Job", "a", "m-abc-a1")
    assert seen is not None and seen["spec"] == {"suspend": False}
