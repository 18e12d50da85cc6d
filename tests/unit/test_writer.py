"""What the writer does where the store lags behind the cluster."""

from __future__ import annotations

from typing import Any

import pytest

from optimodel.api import names
from optimodel.errors import ApiError, Conflict, Forbidden, Invalid, Taken, Terminating
from optimodel.machinery.store import Store
from optimodel.plan.types import Event, Plan, Ref, Refused
from optimodel.writer import MODEL, REFUSED, TERMINATING, Writer

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


class Held:
    """An API server that tells of another's finalizer while the plan is being carried out."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.model: dict[str, Any] = {"kind": MODEL}
        self.now(1, names.FINALIZER)

    def now(self, version: int, *finalizers: str) -> None:
        meta = {"name": "m", "namespace": "a", "uid": "m", "resourceVersion": str(version)}
        self.model = self.model | {"metadata": meta | {"finalizers": list(finalizers)}}
        self.store.put(MODEL, self.model)

    async def delete(self, *_: Any) -> Any:
        self.now(2, names.FINALIZER, "backup.example/hold")
        return {"kind": "Status"}

    async def patch(self, kind: str, namespace: str, name: str, patch: Any) -> Any:
        assert patch["metadata"]["resourceVersion"] == self.model["metadata"]["resourceVersion"]
        self.now(3, *(patch["metadata"]["finalizers"] or ()))
        return self.model


async def test_the_finalizer_of_another_stays_when_ours_goes() -> None:
    store = Store({"owner": lambda kind, obj: []})
    cluster = Held(store)
    store.put("Job", JOB | {"metadata": JOB["metadata"] | {"uid": "j", "resourceVersion": "1"}})
    writer = Writer(cluster, store, lambda *_: None)  # type: ignore[arg-type]
    gone = Ref("batch/v1", "Job", "a", "m-abc-a1")
    await writer.write(("a", "m"), Plan(delete=(gone,), finalizer=False))
    assert cluster.model["metadata"]["finalizers"] == ["backup.example/hold"]
    await writer.write(("a", "m"), Plan(finalizer=True))
    assert cluster.model["metadata"]["finalizers"] == ["backup.example/hold", names.FINALIZER]


class Empty:
    """An API server that takes every apply, but refuses Jobs."""

    def __init__(self) -> None:
        self.applied: list[str] = []

    async def apply(self, manifest: Any, force: bool = True, manager: str = names.FIELD_MANAGER) -> Any:
        if manifest["kind"] == "Job":
            raise Forbidden("exceeded quota: jobs")
        self.applied.append(manifest["metadata"]["name"])
        return {**manifest, "metadata": manifest["metadata"] | {"uid": "x", "resourceVersion": "9"}}


def started(store: Store, cluster: Any) -> tuple[Writer, list[str]]:
    """A writer for model `m`, and the reasons of the Events that it tells."""
    store.put(MODEL, {"kind": MODEL, "metadata": {"name": "m", "namespace": "a", "uid": "m", "resourceVersion": "1"}})
    events: list[str] = []
    return Writer(cluster, store, lambda _, type, reason, message: events.append(reason)), events


async def test_the_objects_of_another_model_are_left_alone() -> None:
    """The stable Service of model `alpha-1f` has the name of the Service of revision `1f` of model `alpha`."""
    store = Store({"owner": lambda kind, obj: []})
    cluster = Empty()
    writer, _ = started(store, cluster)
    meta = {"name": "m", "namespace": "a", "labels": names.labels("other", "serve", "1f")}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"selector": {"x": "y"}}}
    theirs = meta | {"uid": "s", "resourceVersion": "2", "ownerReferences": [{"uid": "o"}]}
    store.put("Service", service | {"metadata": theirs})
    ours = service | {"metadata": meta | {"labels": names.labels("m", "stable")}, "spec": {"selector": {"x": "z"}}}
    with pytest.raises(Taken, match="belongs to OptimizedModel other: rename"):
        await writer.write(("a", "m"), Plan(apply=(ours,)))
    assert cluster.applied == []
    assert store.fact(REFUSED, "m") == (
        Refused("Service", "m", "Service m belongs to OptimizedModel other: rename one of the two"),
    )


async def test_the_making_of_what_was_refused_is_not_told() -> None:
    writer, events = started(Store({"owner": lambda kind, obj: []}), Empty())
    told = (Event("Normal", "OptimizationStarted", "...", "m-abc-a1"), Event("Normal", "Promoted", "..."))
    with pytest.raises(Forbidden):
        await writer.write(("a", "m"), Plan(apply=(JOB,), events=told))
    assert events == ["Promoted"]


@pytest.mark.parametrize(("error", "content"), [(Invalid("x" * 5000, 422), True), (Forbidden("x" * 5000, 403), False)])
async def test_whether_a_refusal_is_about_the_content_is_kept_with_the_generation_that_asked(
    error: ApiError, content: bool
) -> None:
    class Strict(Empty):
        async def apply(self, manifest: Any, force: bool = True, manager: str = names.FIELD_MANAGER) -> Any:
            raise error

    store = Store({"owner": lambda kind, obj: []})
    writer, _ = started(store, Strict())
    meta = {"name": "m", "namespace": "a", "uid": "m", "resourceVersion": "2", "generation": 7}
    store.put(MODEL, {"kind": MODEL, "metadata": meta})
    with pytest.raises(type(error)):
        await writer.write(("a", "m"), Plan(apply=(JOB,)))
    assert store.fact(REFUSED, "m") == (Refused("Job", "m-abc-a1", "x" * 500, content, 7),)


async def test_only_a_refusal_that_is_over_asks_for_another_look() -> None:
    store = Store({"owner": lambda kind, obj: []})
    looks: list[tuple[str, str]] = []
    started(store, Empty())
    writer = Writer(Empty(), store, lambda *_: None, looks.append)  # type: ignore[arg-type]
    await writer.write(("a", "m"), Plan())
    assert looks == [], "nothing was written"
    with pytest.raises(Forbidden):
        await writer.write(("a", "m"), Plan(apply=(JOB,)))
    assert looks == [], "the error itself asks, and with a delay"
    await writer.write(("a", "m"), Plan())
    assert looks == [("a", "m")], "the status has to take back what it told"


class Ending(Empty):
    """An API server whose namespace `a` is being deleted."""

    async def apply(self, manifest: Any, force: bool = True, manager: str = names.FIELD_MANAGER) -> Any:
        raise Terminating("because it is being terminated")


async def test_a_namespace_that_is_going_is_news_once_to_each_of_its_objects_that_waits() -> None:
    store = Store({"owner": lambda kind, obj: []})
    looks: list[tuple[str, str]] = []
    for version, (namespace, name) in enumerate((("a", "m"), ("a", "n"), ("b", "m")), 1):
        meta = {"name": name, "namespace": namespace, "uid": f"{namespace}{name}", "resourceVersion": str(version)}
        store.put(MODEL, {"kind": MODEL, "metadata": meta})
    writer = Writer(Ending(), store, lambda *_: None, looks.append)  # type: ignore[arg-type]
    await writer.write(("a", "m"), Plan(apply=(JOB,)))
    assert store.fact(TERMINATING, "a") and sorted(looks) == [("a", "m"), ("a", "n")]
    await writer.write(("a", "m"), Plan(apply=(JOB,)))
    assert len(looks) == 2
