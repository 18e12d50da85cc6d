"""A reconcile of which one write is refused: everything else goes on."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tests.unit.plan.world import PLATFORM, SPEC, World, result

from optimodel.api import names
from optimodel.app import patience
from optimodel.controller import Controller
from optimodel.errors import ApiError, Conflict, Forbidden, TooMany, Transient
from optimodel.writer import Writer


class Full:
    """The API server of a world, with a quota that lets in no autoscaler. What it answers, the writer takes in."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def apply(self, manifest: Any, force: bool = True, manager: str = names.FIELD_MANAGER) -> Any:
        if manifest["kind"] == "HorizontalPodAutoscaler":
            raise Forbidden("exceeded quota: hpas", 403)
        return self._written(manifest)

    async def patch_status(self, kind: str, namespace: str, name: str, patch: Any) -> Any:
        live = self.world.get(kind, name)
        return self._written({**live, "status": _merged(live.get("status", {}), patch["status"])})

    async def patch(self, kind: str, namespace: str, name: str, patch: Any) -> Any:
        live = self.world.get(kind, name)
        return self._written({**live, "metadata": _merged(live["metadata"], patch["metadata"])})

    def _written(self, obj: Any) -> Any:
        self.world.version += 1
        meta, version = obj["metadata"], str(self.world.version)
        live = self.world.store.get(obj["kind"], meta["namespace"], meta["name"])
        uid = live["metadata"]["uid"] if live else f"{meta['name']}-{version}"
        return {**obj, "metadata": meta | {"uid": uid, "resourceVersion": version}}


def _merged(old: Any, new: Any) -> Any:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    both = old | {k: _merged(old.get(k), v) for k, v in new.items()}
    return {k: v for k, v in both.items() if v is not None}


class Wishes:
    """How many pods are to be asked, by reconcile."""

    def __init__(self) -> None:
        self.pods: list[int] = []

    def want(self, key: object, probes: Any, progress: Any, complaints: Any) -> None:
        self.pods.append(len(probes))


async def test_a_refused_autoscaler_keeps_neither_the_question_nor_the_clock_from_the_rest() -> None:
    spec = copy.deepcopy(SPEC) | {"serving": {"autoscaling": {"minReplicas": 1, "maxReplicas": 2}}}
    w, wishes, looks = World(spec), Wishes(), []
    w.settle()
    w.end_job(result())
    (scaler,) = w.names("HorizontalPodAutoscaler")
    w.store.remove("HorizontalPodAutoscaler", w.get("HorizontalPodAutoscaler", scaler))
    w.start_pods(answers=None)
    w.store.remove("HorizontalPodAutoscaler", w.get("HorizontalPodAutoscaler", scaler))
    (service,) = [name for name in w.names("Service") if name != "m"]
    w.store.remove("Service", w.get("Service", service))
    writer = Writer(Full(w), w.store, lambda *_: None, looks.append)  # type: ignore[arg-type]
    controller = Controller(w.store, writer, wishes, PLATFORM, lambda: w.now)
    with pytest.raises(Forbidden) as refused:
        await controller.reconcile(("a", "m"))
    assert wishes.pods == [1], "the ready pod is to be asked"
    assert looks == [("a", "m")], "the Service was made, of which no watch tells"
    _, deadline = patience(refused.value)
    assert deadline is not None and 0 < deadline <= 15 * 60


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (Forbidden("no"), 7.0),
        (Conflict("late"), 2.0),
        (Transient("away"), 3.0),
        (TooMany("slowly", retry_after=30.0), 30.0),
    ],
)
def test_the_clock_bounds_the_wait_where_the_server_only_said_no(error: ApiError, wait: float) -> None:
    error.look_again = 7.0
    assert patience(error)[1] == wait
