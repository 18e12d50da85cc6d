"""What the operator's process survives, seen from outside: a real API server that goes away, restarts, and rivals for the Lease."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from devcluster.apiserver import ApiServer
from tests.integration.process import Cluster, Operator, eventually


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with ApiServer() as api:
        yield Cluster(api)


@pytest.fixture
def run(cluster: Cluster, tmp_path: Path) -> Iterator[object]:
    started: list[Operator] = []

    def start(uid: str = "one", **env: str) -> Operator:
        started.append(Operator(cluster, tmp_path / "operator.log", uid, **env))
        return started[-1]

    yield start
    for operator in started:
        operator.end(signal.SIGKILL)
    print((tmp_path / "operator.log").read_text()[-8000:])


def test_each_write_happens_once_and_a_restart_writes_nothing(cluster, run) -> None:
    cluster.create(*(f"m{n}" for n in range(20)))
    operator = run(TOY_CHILDREN="3")
    eventually(lambda: cluster.ready() == 20, 30)
    writes = cluster.writes()
    assert sum(writes.values()) == 20 * (3 + 4)
    assert {count for name, count in writes.items() if "services" in name} == {1}
    assert operator.end() == 0

    again = run("two", TOY_CHILDREN="3")
    eventually(lambda: again.figure("optimodel_reconciles_total") >= 20, 20, "reconciled after the restart")
    assert cluster.writes() == writes


def test_drift_is_healed_and_a_deleted_child_comes_back(cluster, run) -> None:
    cluster.create("m")
    run()
    eventually(lambda: cluster.ready() == 1, 30)
    patch = json.dumps([{"op": "replace", "path": "/spec/ports/0/targetPort", "value": 9}])
    cluster.kubectl("patch", "service", "m-0", "--type=json", "-p", patch)
    eventually(lambda: cluster.list("services")[-1]["spec"]["ports"][0]["targetPort"] == 8000, 10)
    cluster.kubectl("delete", "service", "m-0")
    eventually(lambda: "m-0" in cluster.services(), 10)


def test_a_name_that_is_taken_is_left_to_its_owner(cluster, run) -> None:
    cluster.kubectl("create", "service", "clusterip", "m-0", "--tcp=99:99")
    cluster.create("m")
    operator = run()
    eventually(lambda: operator.figure('optimodel_reconciles_total{result="Taken"}') >= 1, 30)
    assert [s["spec"]["ports"][0]["port"] for s in cluster.list("services") if s["metadata"]["name"] == "m-0"] == [99]
    cluster.kubectl("delete", "service", "m-0")
    eventually(lambda: cluster.ready() == 1, 30)


def test_an_outage_of_over_a_minute_is_survived_and_work_goes_on_within_5_s(cluster, run) -> None:
    operator = run()
    cluster.create("before")
    eventually(lambda: cluster.ready() == 1, 30)
    cluster.api.stop()
    until = time.monotonic() + 70
    eventually(lambda: time.monotonic() > until or operator.process.poll() is not None, 80)
    assert operator.process.poll() is None
    assert operator.ask("/healthz")[0] == 200
    cluster.api.start()
    back = time.monotonic()
    cluster.create("after")
    eventually(lambda: cluster.ready() == 2, 15)
    assert time.monotonic() - back <= 5.5, "went on too late"
    assert operator.process.poll() is None


def test_what_was_deleted_while_nobody_watched_is_noticed(cluster, run) -> None:
    """The watch's version is compacted away: the list that follows says nothing of what is gone."""
    operator = run()
    cluster.create("m")
    eventually(lambda: cluster.ready() == 1, 30)
    operator.send(signal.SIGSTOP)
    cluster.crash()
    cluster.kubectl("delete", "service", "m-0")
    cluster.create("n")
    cluster.crash()
    operator.send(signal.SIGCONT)
    eventually(lambda: {"m-0", "n-0"} <= cluster.services(), 40)
    eventually(lambda: cluster.ready() == 2, 20)


@pytest.mark.parametrize(("sign", "bound"), [(signal.SIGTERM, 5.0), (signal.SIGKILL, 20.0)])
def test_a_standby_is_ready_and_takes_over(cluster, run, sign, bound) -> None:
    one = run("one")
    eventually(one.leads, 20)
    two = run("two")
    eventually(lambda: two.ask("/readyz")[0] == 200, 20)
    cluster.create("m")
    eventually(lambda: cluster.ready() == 1, 30)
    assert not two.leads()
    one.end(sign)
    cluster.create("n")
    took = eventually(lambda: cluster.ready() == 2, 30)
    print(f"after {sign.name}: the next object was Ready {took:.1f} s later")
    assert took <= bound
    assert two.leads()


def test_a_leader_that_slept_through_its_lease_writes_nothing_and_ends(cluster, run) -> None:
    one = run("one")
    eventually(one.leads, 20)
    two = run("two")
    cluster.create("m")
    eventually(lambda: cluster.ready() == 1, 30)
    one.send(signal.SIGSTOP)
    eventually(two.leads, 30)
    cluster.create("n")
    eventually(lambda: cluster.ready() == 2, 20)
    cluster.kubectl("patch", "optimizedmodel", "n", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    one.send(signal.SIGCONT)
    assert one.process.wait(20) == 1
    eventually(lambda: cluster.ready() == 2, 20)
    assert all(count == 1 for name, count in cluster.writes().items() if name.endswith("services/m-0/"))
    assert two.leads()
