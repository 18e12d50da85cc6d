"""Elections on a clock of their own, against a Lease that behaves as the API server's: versions, conflicts, outages."""

import asyncio
import copy
from typing import Any

import pytest

from optimodel.errors import Conflict, NotFound, NotLeading, Transient
from optimodel.machinery.leader import Leader, Lost

pytestmark = pytest.mark.looptime


class Leases:
    """One Lease with optimistic locking."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.away: set[str] = set()
        self.version = 0

    def seen_by(self, who: str) -> "Seen":
        return Seen(self, who)


class Seen:
    """The Lease as one candidate reaches it."""

    def __init__(self, leases: Leases, who: str) -> None:
        self.leases, self.who = leases, who

    def _reach(self) -> None:
        if self.who in self.leases.away:
            raise Transient("connection refused")

    async def get_lease(self, namespace: str, name: str, seconds: float) -> dict[str, Any]:
        self._reach()
        if self.leases.lease is None:
            raise NotFound("none")
        return copy.deepcopy(self.leases.lease)

    async def create_lease(self, namespace: str, lease: dict[str, Any], seconds: float) -> dict[str, Any]:
        self._reach()
        if self.leases.lease is not None:
            raise Conflict("exists")
        return self._store(lease)

    async def replace_lease(self, namespace: str, lease: dict[str, Any], seconds: float) -> dict[str, Any]:
        self._reach()
        if lease["metadata"]["resourceVersion"] != str(self.leases.version):
            raise Conflict("stale")
        return self._store(lease)

    def _store(self, lease: dict[str, Any]) -> dict[str, Any]:
        self.leases.version += 1
        self.leases.lease = copy.deepcopy(lease)
        self.leases.lease["metadata"]["resourceVersion"] = str(self.leases.version)
        return lease


def candidate(leases: Leases, who: str) -> Leader:
    return Leader(leases.seen_by(who), "n", "l", identity=who, clock=asyncio.get_running_loop().time)


async def test_two_never_lead_at_once_whoever_loses_touch() -> None:
    leases = Leases()
    one, two = candidate(leases, "one"), candidate(leases, "two")
    await one.acquire()
    holding = asyncio.create_task(one.hold(lambda: None))
    waiting = asyncio.create_task(two.acquire())
    leases.away.add("one")
    began = asyncio.get_running_loop().time()
    while not two.leading:
        assert not (one.leading and two.leading)
        await asyncio.sleep(0.1)
    assert 10 < asyncio.get_running_loop().time() - began < 20
    assert not one.leading
    with pytest.raises(NotLeading):
        one.budget()
    leases.away.clear()
    with pytest.raises(Lost):
        await holding
    await waiting


async def test_a_leader_that_lost_touch_goes_on_when_the_lease_is_still_its_own() -> None:
    leases = Leases()
    one = candidate(leases, "one")
    await one.acquire()
    regained: list[float] = []
    holding = asyncio.create_task(one.hold(lambda: regained.append(1)))
    leases.away.add("one")
    await asyncio.sleep(120)
    assert not one.leading
    opened = asyncio.create_task(one.opened())
    leases.away.clear()
    async with asyncio.timeout(3):
        await opened
    assert one.leading
    await asyncio.sleep(0)
    assert regained
    holding.cancel()


async def test_a_released_lease_is_taken_at_the_next_look() -> None:
    leases = Leases()
    one, two = candidate(leases, "one"), candidate(leases, "two")
    await one.acquire()
    waiting = asyncio.create_task(two.acquire())
    await asyncio.sleep(5)
    await one.release()
    with pytest.raises(NotLeading):
        one.budget()
    async with asyncio.timeout(3):
        await waiting


async def test_a_write_may_not_outlive_the_lease() -> None:
    leases = Leases()
    one = candidate(leases, "one")
    await one.acquire()
    assert 14 < one.budget() <= 14.5
    await asyncio.sleep(9)
    assert 5 < one.budget() < 6
