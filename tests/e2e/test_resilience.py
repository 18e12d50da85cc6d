"""What happens to models while the operator, or the API server, is away."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import time
from pathlib import Path

from demo import stage
from demo.clients import Load
from devcluster import node
from devcluster.control import FIRST_SERVICE
from devcluster.processes import all_processes
from tests.e2e import kit

from optimodel.cli import view

KILLS = 3
OUTAGE_S = 120
KILLED_S, TERMINATED_S, RETURN_S = 20, 5, 5
LEASE = ("lease", stage.SYSTEM, stage.RELEASE)
SELECTOR = "app.kubernetes.io/component=operator"


def leader(kubectl: stage.Kubectl) -> str:
    """Pod uid that holds the Lease; empty = nobody."""
    found = kubectl.get(*LEASE)
    return str((found or {}).get("spec", {}).get("holderIdentity") or "")


def operators(kubectl: stage.Kubectl) -> list[kit.Obj]:
    """The operator's pods."""
    return kubectl.list("pods", stage.SYSTEM, SELECTOR)


def both_ready(kubectl: stage.Kubectl) -> bool:
    """Whether every operator pod is ready."""
    states = [s.get("ready") for p in operators(kubectl) for s in p.get("status", {}).get("containerStatuses", [])]
    return len(states) == 2 and all(states)


def pid_of(uid: str) -> int | None:
    """Process of the operator in the pod with this uid, as this machine sees it; none while its container restarts."""
    for pid, _, words in all_processes():
        if "optimodel.app" in words:
            groups = Path(f"/proc/{pid}/cgroup").read_text()
            if uid in groups or uid.replace("-", "_") in groups:
                return pid
    return None


def kill_leader(kubectl: stage.Kubectl, sign: signal.Signals) -> str:
    """Signal the leading operator; its identity."""
    holder = stage.until(lambda: leader(kubectl), 40, "nobody leads")
    uid = next((p["metadata"]["uid"] for p in operators(kubectl) if p["metadata"]["uid"] in holder), holder)
    os.kill(stage.until(lambda: pid_of(uid), 60, f"no operator process of pod {uid}"), sign)
    return holder


def test_operator_killed_at_any_moment(house: kit.House) -> None:
    """SIGKILL at random moments between create and Ready: the same end, one Job, one artifact."""
    rng = random.Random(time.time_ns())
    house.apply(house.model("killed", "a"))
    for _ in range(KILLS):
        moment = time.monotonic() + rng.uniform(0, 12)
        stage.until(lambda due=moment: time.monotonic() >= due, 30, "the moment", 0.05)
        kill_leader(house.kubectl, signal.SIGKILL)
    om = house.wait_ready("killed")
    house.until(lambda: both_ready(house.kubectl), 120, "killed")
    assert len(house.names("jobs", "optimodel.dev/component=optimize")) == 1
    stored = stage.keys(f"{kit.ROOT}/artifacts/{house.namespace}")
    assert len([key for key in stored if key.startswith("published/")]) == 1
    assert view.weights(om) == {om["status"]["revision"]: 100}


def test_a_standby_takes_over(house: kit.House) -> None:
    """Soon after the leader's pod was killed, at once after it was asked to go."""
    for grace, limit in ((0, KILLED_S), (30, TERMINATED_S)):
        house.until(lambda: both_ready(house.kubectl), 120, "operator")
        holder = stage.until(lambda: leader(house.kubectl), 40, "nobody leads")
        pod = next(p["metadata"]["name"] for p in operators(house.kubectl) if p["metadata"]["uid"] in holder)
        how = (f"--grace-period={grace}", *(("--force",) if not grace else ()), "--wait=false")
        begun = time.monotonic()
        house.kubectl("delete", "pod", pod, "-n", stage.SYSTEM, *how)
        stage.until(lambda old=holder: (h := leader(house.kubectl)) and h != old, limit + 5, "no new leader", 0.1)
        took = time.monotonic() - begun
        assert took <= limit, f"{took:.1f} s with {grace} s of grace"


async def test_api_server_away_for_two_minutes(house: kit.House) -> None:
    """The model serves all the while, the operator does not restart, and goes on at once after the return."""
    house.apply(house.model("served", "a", routed=True))
    await kit.off_loop(house.wait_ready, "served")
    await kit.off_loop(house.until, lambda: both_ready(house.kubectl), 120, "served")
    before = restarts(house.kubectl)
    second = json.dumps(house.model("second", "a"))
    async with house.http("served") as client:
        load = Load(client.ask, kit.TEXT, 5)
        running = asyncio.create_task(load.run())
        server = node.process("apiserver")
        await kit.off_loop(server.stop, 10.0, signal.SIGKILL)
        try:
            await asyncio.sleep(OUTAGE_S)
        finally:
            server.start(node.CONTROL.apiserver())
            await kit.off_loop(stage.until, node.CONTROL.ready, 60, "the API server did not come back", 0.05)
        await kit.off_loop(stage.until, reachable, 60, "the Service of the API server did not come back", 0.05)
        back = time.monotonic()
        house.kubectl("apply", "-f", "-", text=second)
        await kit.off_loop(
            house.until, lambda: house.names("modelrevisions", "optimodel.dev/model=second"), 30, "second", 0.1
        )
        took = time.monotonic() - back
        load.stop()
        await running
    assert [s.error for s in load.failed] == []
    assert took <= RETURN_S, f"went on {took:.1f} s after the return"
    assert restarts(house.kubectl) == before


def reachable() -> bool:
    """Whether the API server's Service, by which pods reach it, takes connections."""
    try:
        socket.create_connection((FIRST_SERVICE, 443), timeout=1).close()
    except OSError:
        return False
    return True


def restarts(kubectl: stage.Kubectl) -> dict[str, int]:
    """Restarts of each operator pod."""
    return {p["metadata"]["uid"]: p["status"]["containerStatuses"][0]["restartCount"] for p in operators(kubectl)}
