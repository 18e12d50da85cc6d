"""The operator is killed, or refused, at any moment of the path: the end is the one of a run that nobody disturbed."""

import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from devcluster.faultproxy import FaultProxy, Rule
from tests.integration.path import OPERATOR, World, at, settled
from tests.integration.process import REAL, Operator, eventually

KILLS, OBJECTS, STORM = 20, 12, 3.0
WRITES = {"verb": "create|update|patch|delete", "resource": r"(?!events|leases).*"}
Start = Callable[..., Operator]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("world")) as found:
        yield found


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "operator.log"


@pytest.fixture
def start(world: World, log: Path) -> Iterator[Start]:
    """Starts an operator; each is the Lease's holder of before, as a container that restarts is."""
    user = world.api.user(OPERATOR)
    began, started = log.stat().st_size if log.exists() else 0, []

    def run(kubeconfig: Path = user) -> Operator:
        started.append(Operator(world.cluster, log, "pod-uid", kubeconfig, REAL))
        return started[-1]

    yield run
    for operator in started:
        operator.end(signal.SIGKILL)
    print(log.read_bytes()[began:][-8000:].decode())


@pytest.fixture(scope="module")
def golden(world: World, log: Path) -> tuple[dict[str, Any], dict[str, Any], int]:
    """What an undisturbed object is like at Ready and after its canary, and the writes it took to Ready."""
    operator = Operator(world.cluster, log, "pod-uid", world.api.user(OPERATOR), REAL)
    try:
        world.create("golden")
        eventually(lambda: settled(world.models()["golden"], 1), 60, "golden is Ready")
        ready, writes = world.end("golden"), world.writes("golden")
        world.change("golden")
        eventually(lambda: settled(world.models()["golden"], 2), 60, "golden is promoted")
        eventually(lambda: len(world.end("golden")["pods"]) == 2, 30, "the old pods are gone")
        return ready, world.end("golden"), writes
    finally:
        operator.end(signal.SIGKILL)
        print(log.read_text()[-4000:])


def pass_time(seconds: float, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Let a while go by, doing something again and again."""
    until = time.monotonic() + seconds
    eventually(lambda: meanwhile() is True or time.monotonic() > until, seconds + 30)


def all_settled(world: World, names: Iterable[str], generation: int) -> bool:
    found = world.models()
    return all(settled(found[name], generation) for name in names)


def advance(world: World, names: set[str], passed: set[str]) -> bool:
    """Change each object that is Ready for the first time; whether all have come to the path's end."""
    found = {name: obj for name, obj in world.models().items() if name in names}
    for name, obj in found.items():
        if name not in passed and settled(obj, 1):
            world.change(name)
            passed.add(name)
    return all(settled(obj, 2) for obj in found.values())


def test_the_undisturbed_path(golden) -> None:
    ready, end, writes = golden
    first, second = ready["status"]["stableRevision"], end["status"]["stableRevision"]
    assert first != second
    assert end["weights"] == [{first: 100}, {first: 90, second: 10}, {first: 50, second: 50}, {second: 100}]
    assert [count for _, count in end["jobs"]] == [1, 1]
    assert len(set(end["artifacts"].values())) == 1
    print(f"{writes} writes from creation to Ready")


def test_killed_at_random_moments(world, golden, start) -> None:
    """Every fourth of the kills comes while the process starts, the others while it works."""
    names, passed, where, operators = [], set(), set(), [start()]
    for seed in range(KILLS):
        chance = random.Random(seed)
        if seed < OBJECTS:
            names.append(f"kill{seed:02}")
            world.create(names[-1])
        if seed % 4:
            eventually(lambda: operators[-1].figure("optimodel_reconciles_total"), 60, "it works")
        pass_time(chance.uniform(0.0, 2.5), partial(advance, world, set(names), passed))
        operators[-1].end(signal.SIGKILL)
        spots = [at(obj) for name, obj in world.models().items() if name in names]
        where |= set(spots)
        print(f"kill {seed + 1} (seed {seed}): {' '.join(spots)}")
        operators.append(start())
    eventually(lambda: advance(world, set(names), passed), 90, "all are promoted")
    for name in names:
        world.ends_as(name, golden[1])
    assert {spot.split("/")[0] for spot in where} >= {"Optimizing", "Canary", "Ready"}, where


def test_killed_at_writes_before_their_answers(world, golden, start) -> None:
    """One object for each write to Ready, then a kill at every fourth write of their canaries, which go on together."""
    operators, rules = [], {}
    names = [f"crash{number:02}" for number in range(1, golden[2] + 1)]

    def alive() -> bool:
        if operators[-1].process.poll() is not None:
            operators.append(start(proxy.kubeconfig))
        return True

    def killed_or_ready(rule: Rule, name: str) -> bool:
        return operators[-1].process.poll() is not None if rule.hits else all_settled(world, [name], 1)

    def arm(name: str, number: int) -> Rule:
        rule = Rule(**WRITES, name=f"{name}(-.*)?", skip=number - 1, crash=lambda: operators[-1].process.kill())
        proxy.rules.append(rule)
        return rule

    with FaultProxy(world.api.kubeconfig, impersonate=OPERATOR) as proxy:
        operators.append(start(proxy.kubeconfig))
        for number, name in enumerate(names, 1):
            rules[number] = arm(name, number)
            world.create(name)
            eventually(partial(killed_or_ready, rules[number], name), 60, name)
            alive()
        eventually(lambda: alive() and all_settled(world, names, 1), 60, "all are Ready")
        for name in names:
            world.ends_as(name, golden[0], alive)
        print(f"killed after writes {[n for n in rules if rules[n].hits]} of {golden[2]} to Ready")
        proxy.rules.clear()
        later = {number: arm(names[number // 2], number) for number in range(1, 2 * len(names), 4)}
        for name in names:
            world.change(name)
        eventually(lambda: alive() and all_settled(world, names, 2), 120, "all are promoted")
        print(f"killed after writes {[n for n in later if later[n].hits]} of the canary")
        for name in names:
            world.ends_as(name, golden[1], alive)
    assert sum(rule.hits for rule in rules.values()) >= golden[2] - 2
    assert sum(rule.hits for rule in later.values()) >= 5


@pytest.mark.parametrize(
    "rule",
    [
        Rule(verb="patch", resource=".*/status", status=409, times=None),
        Rule(verb="create|patch|get|list|update", status=429, retry_after=1, times=None),
        Rule(verb="patch|delete", resource=r"(?!leases).*", drop="after", times=None),
    ],
    ids=["409", "429", "lost-answers"],
)
def test_a_storm_passes_without_a_trace(world, golden, start, rule) -> None:
    names = {f"storm{n}x{rule.status or 0}" for n in range(2)}
    with FaultProxy(world.api.kubeconfig, impersonate=OPERATOR) as proxy:
        operator = start(proxy.kubeconfig)
        eventually(operator.leads, 60, "it leads")
        for name in names:
            world.create(name)
        for generation in (1, 2):
            proxy.rules.append(rule)
            pass_time(STORM)
            proxy.rules.clear()
            over = time.monotonic()
            eventually(partial(all_settled, world, names, generation), 60, str(generation))
            print(f"{rule.hits} calls hit; settled {time.monotonic() - over:.1f} s after the storm")
            if generation == 1:
                for name in names:
                    world.change(name)
        for name in names:
            world.ends_as(name, golden[1])
        assert operator.process.poll() is None
