"""What a sweep mends in the store, and what it must not bury."""

from __future__ import annotations

from typing import Any

from optimodel.errors import NotFound
from optimodel.machinery.store import Store
from optimodel.machinery.sweep import Listing, Sweeper


def obj(version: int, name: str = "d") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "a", "uid": f"u-{name}", "resourceVersion": str(version)}}


class Cluster:
    """An API server that lists what is there with our label, or does not know the kind."""

    def __init__(self) -> None:
        self.version = 9
        self.there: list[dict[str, Any]] = []
        self.served = True

    async def list_metadata(self, kind: str) -> Listing:
        if not self.served:
            raise NotFound(kind, 404)
        return Listing(self.version, tuple(each["metadata"] for each in self.there))

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        return next(each for each in self.there if each["metadata"]["name"] == name)


class Swept:
    """A store, what stands behind it, and the sweeps between them."""

    def __init__(self, *known: dict[str, Any]) -> None:
        self.store, self.cluster = Store(), Cluster()
        self.told: list[str] = []
        for each in known:
            self.store.put("Deployment", each)
        self.sweeper = Sweeper(
            self.store,
            self.cluster,
            ["Deployment"],
            lambda kind, o: self.told.append(o["metadata"]["name"]),
            print,
            patience=0,
        )

    async def sweep(self) -> list[str]:
        await self.sweeper.sweep("Deployment")
        return sorted(name for _, name, _, _ in self.store.names("Deployment"))


async def test_what_lost_its_label_unseen_is_taken_again_once_it_has_it_back() -> None:
    s = Swept(obj(5))
    assert await s.sweep() == [] and s.told == ["d"]
    assert not s.store.put("Deployment", obj(8)), "an event from before the list comes too late"
    assert s.store.put("Deployment", obj(20)), "the answer to our own apply"


async def test_what_has_its_label_back_and_came_by_no_watch_is_fetched() -> None:
    s = Swept(obj(5))
    await s.sweep()
    s.cluster.version, s.cluster.there = 30, [obj(20)]
    assert await s.sweep() == ["d"] and s.told == ["d", "d"]


async def test_a_sweep_drops_what_went_unseen_and_keeps_what_came_after_the_list() -> None:
    s = Swept(obj(5, "gone"), obj(6, "there"), obj(12, "newer"))
    s.cluster.there = [obj(6, "there")]
    assert await s.sweep() == ["newer", "there"] and s.told == ["gone"]


async def test_a_kind_that_went_takes_its_objects_along() -> None:
    s = Swept(obj(5))
    s.cluster.served = False
    assert await s.sweep() == [] and s.sweeper.missing == {"Deployment"}
