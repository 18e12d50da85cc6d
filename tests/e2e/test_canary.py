"""The canary under live load, both ways: forward to the end, and back from the middle. Then the autoscaler under load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from math import comb
from typing import Any

from demo.clients import Load
from tests.e2e import kit

from optimodel.cli import main as cli
from optimodel.cli import view

NAME = "questions"
RATE = 12.0
CONFIDENCE = 0.999
FIRST_S, HALF_S = 14, 10
STEPS = [
    {"name": "first", "weight": 20, "minDuration": f"{FIRST_S}s"},
    {"name": "half", "weight": 50, "minDuration": f"{HALF_S}s"},
    {"name": "go", "approval": "Required"},
]
SETTLED_S = 1.0


def spec(house: kit.House, source: str) -> kit.Obj:
    """Two replicas' worth of canary."""
    found = house.model(NAME, source, routed=True)
    found["spec"]["rollout"]["steps"] = STEPS
    return found


def band(n: int, p: float, confidence: float = CONFIDENCE) -> tuple[int, int]:
    """The smallest central interval of Binomial(n, p) that holds at least `confidence`."""
    tail, low, below = (1 - confidence) / 2, 0, 0.0
    mass = [comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    while below + mass[low] < tail:
        below += mass[low]
        low += 1
    high, above = n, 0.0
    while above + mass[high] < tail:
        above += mass[high]
        high -= 1
    return low, high


@asynccontextmanager
async def loads(house: kit.House) -> AsyncIterator[list[Load]]:
    """Open loops over HTTP and gRPC, until the block ends."""
    async with house.http(NAME) as http, house.grpc(NAME) as grpc:
        found = [Load(client.ask, kit.TEXT, RATE) for client in (http, grpc)]
        running = [asyncio.create_task(load.run()) for load in found]
        try:
            yield found
        finally:
            for load in found:
                load.stop()
            await asyncio.gather(*running)


def failures(loads: Sequence[Load]) -> list[str]:
    """What went wrong, with the second it was sent in."""
    return [f"{shot.sent - load.shots[0].sent:.1f} s: {shot.error}" for load in loads for shot in load.failed]


async def watch(house: kit.House, until: Any, seconds: float) -> list[tuple[float, kit.Obj]]:
    """The status at every look, with the time of the look, until it is as wanted."""
    seen: list[tuple[float, kit.Obj]] = []

    def look(om: kit.Obj) -> Any:
        seen.append((time.monotonic(), om.get("status", {})))
        return until(om)

    await kit.off_loop(house.until_om, NAME, look, seconds)
    return seen


def windows(seen: list[tuple[float, kit.Obj]]) -> dict[int, tuple[float, float]]:
    """Candidate's weight -> from when to when (monotonic) the gateway had it, by the status's own times."""
    offset = time.monotonic() - datetime.now(UTC).timestamp()
    found: dict[int, tuple[float, float]] = {}
    for at, status in seen:
        rollout = status.get("rollout") or {}
        if rollout.get("weighedAt") and rollout["phase"] in ("Settling", "AwaitingApproval"):
            since = datetime.fromisoformat(rollout["weighedAt"]).timestamp() + offset
            begin, _ = found.get(rollout.get("weight", 0), (since, at))
            found[rollout.get("weight", 0)] = (begin, at)
    return found


def split(load: Load, window: tuple[float, float], candidate: list[float]) -> tuple[int, int]:
    """(answers by the candidate, answers) among requests sent well inside a window."""
    inside = [s for s in load.shots if window[0] + SETTLED_S <= s.sent and s.ended <= window[1] and not s.error]
    return sum(kit.near(s.answer, candidate) for s in inside), len(inside)


async def started(house: kit.House) -> tuple[list[float], list[float]]:
    """Version a stable; the expected answers of a and b."""
    house.apply(spec(house, "a"))
    other = house.model("other", "b")
    house.apply(other)
    await kit.off_loop(house.wait_ready, NAME)
    await kit.off_loop(house.wait_ready, "other")
    a = await kit.off_loop(house.own_answers, NAME, [kit.TEXT])
    b = await kit.off_loop(house.own_answers, "other", [kit.TEXT])
    house.kubectl("delete", "optimizedmodel", "other", "-n", house.namespace)
    return a[0], b[0]


async def test_canary_under_load(house: kit.House) -> None:
    a, b = await started(house)
    old = house.om(NAME)["status"]["stableRevision"]
    async with loads(house) as running:
        house.apply(spec(house, "b"))
        await forward(house, running, old, a, b)
    assert failures(running) == []
    assert all(kit.near(s.answer, a) or kit.near(s.answer, b) for load in running for s in load.shots)

    stable = house.om(NAME)["status"]["stableRevision"]
    async with loads(house) as running:
        house.apply(spec(house, "a"))
        await backward(house, stable)
    assert failures(running) == []
    assert kit.near(running[0].shots[-1].answer, b)


async def forward(house: kit.House, running: list[Load], old: str, a: list[float], b: list[float]) -> None:
    """Through every step to the removal of the old pods; the measured split of each step is within its band."""

    def awaits(om: kit.Obj) -> bool:
        return (om["status"].get("rollout") or {}).get("phase") == "AwaitingApproval"

    seen = await watch(house, awaits, kit.OPTIMIZED_S)
    found = windows(seen)
    assert sorted(found) == [20, 50]
    for weight, window in found.items():
        for load in running:
            hits, total = split(load, window, b)
            low, high = band(total, weight / 100)
            assert total > RATE * HALF_S / 2 and low <= hits <= high, f"{hits} of {total} at {weight} %"
    assert view.weights(house.om(NAME))[old] == 50
    assert await kit.off_loop(cli, ["approve", NAME, "-n", house.namespace]) == 0
    await kit.off_loop(house.wait_ready, NAME, kit.SERVED_S)
    await kit.off_loop(house.until, lambda: not all_pods(house, old), 90, NAME)
    count = len(running[0].shots)
    await kit.off_loop(house.until, lambda: len(running[0].shots) > count + 2 * RATE, 20, NAME)
    assert kit.near(running[0].shots[count].answer, b)


async def backward(house: kit.House, stable: str) -> None:
    """To the second step, then abort: stable takes everything and the candidate's pods go."""
    om = await kit.off_loop(house.until_om, NAME, lambda om: len(view.weights(om)) == 2, kit.SERVED_S)
    candidate = om["status"]["rollout"]["candidate"]
    assert await kit.off_loop(cli, ["abort", NAME, "-n", house.namespace]) == 0
    await kit.off_loop(house.until, lambda: not all_pods(house, candidate), 90, NAME)
    om = house.om(NAME)
    assert om["status"]["stableRevision"] == stable and view.weights(om) == {stable: 100}
    assert view.condition(om, "RolledBack")["reason"] == "Aborted"
    assert view.condition(om, "Stalled")["status"] == "True"


def all_pods(house: kit.House, revision: str) -> list[kit.Obj]:
    """Pods of a revision, also those that are going."""
    return house.kubectl.list("pods", house.namespace, f"optimodel.dev/model={NAME},optimodel.dev/revision={revision}")


async def test_load_raises_replicas_and_they_come_back(house: kit.House) -> None:
    down = {"stabilizationWindowSeconds": 5, "policies": [{"type": "Pods", "value": 4, "periodSeconds": 5}]}
    scaling = {"minReplicas": 1, "maxReplicas": 2, "targetCpuUtilization": 90, "behavior": {"scaleDown": down}}
    requests = {"requests": {"cpu": "100m", "memory": "192Mi"}, "limits": {"memory": "1Gi"}}
    document = house.model(NAME, "a", routed=True, serving={"autoscaling": scaling, "resources": requests})
    house.apply(document)
    await kit.off_loop(house.wait_ready, NAME)
    async with house.http(NAME) as client:
        load = Load(client.ask, kit.TEXT, 60)
        running = asyncio.create_task(load.run(60 * 120))
        await kit.off_loop(house.until_om, NAME, lambda om: om["status"].get("replicas") == 2, 120)
        load.stop()
        await running
    assert failures([load]) == []
    om = await kit.off_loop(house.until_om, NAME, lambda om: om["status"].get("replicas") == 1, 150)
    assert view.condition(om, "Ready")["status"] == "True"
