"""How often the operator writes, counted where nobody can hide it: in the API server's audit log."""

from __future__ import annotations

import time
from collections import Counter

from tests.e2e import kit

NAME = "counted"
STATUS_PATCHES = 6
IDLE_S = 180
ONCE = ("modelrevisions", "jobs", "deployments", "services", "networkpolicies", "httproutes", "grpcroutes")


def key(event: kit.Obj) -> tuple[str, str, str, str]:
    """What a write did, to what."""
    ref = event["objectRef"]
    return event["verb"], ref["resource"], ref.get("subresource", ""), ref["name"]


def test_writes_from_create_to_ready_and_none_after(house: kit.House) -> None:
    since = kit.audit_position()
    document = house.model(NAME, "a")
    document["spec"]["artifacts"]["deletionPolicy"] = "Delete"
    house.apply(document)
    om = house.wait_ready(NAME)
    settle(house, since)
    counts = Counter(key(e) for e in house.writes(since))
    for (verb, resource, subresource, name), times in counts.items():
        if resource in ONCE:
            assert (verb, times) == ("patch", 1), f"{resource}/{name} {subresource}: {verb} {times} times"
    plain = sum(n for (_, r, sub, _), n in counts.items() if r == "optimizedmodels" and not sub)
    assert plain == 1, "one patch for the finalizer"
    patches = sum(n for (_, r, sub, _), n in counts.items() if r == "optimizedmodels" and sub == "status")
    assert patches <= STATUS_PATCHES + len(om["status"]["steps"]), f"{patches} status patches"
    assert idle(house, IDLE_S) == []


def settle(house: kit.House, since: int, quiet: float = 8.0) -> None:
    """Return once nothing was written for a while; fail when that does not come."""
    state = {"count": -1, "at": time.monotonic()}

    def done() -> bool:
        count = len(house.writes(since))
        if count != state["count"]:
            state.update(count=count, at=time.monotonic())
        return time.monotonic() - state["at"] >= quiet

    house.until(done, 90, NAME)


def idle(house: kit.House, seconds: float) -> list[tuple[str, str, str, str]]:
    """Writes during an idle time, returned as soon as there is one."""
    since, end = kit.audit_position(), time.monotonic() + seconds
    house.until(lambda: house.writes(since) or time.monotonic() >= end, seconds + 30, NAME, every=2.0)
    return [key(e) for e in house.writes(since)]
