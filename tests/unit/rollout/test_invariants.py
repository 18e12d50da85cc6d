"""The rollout under any order of events: what must never happen, whatever people, pods and the gateway do."""

from __future__ import annotations

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.unit.rollout.world import CANARY, World

from optimodel.api.spec import RolloutStep
from optimodel.rollout import advance

HASHES = st.sampled_from(["a", "b", "c", "d"])
VERBS = st.sampled_from(["promote", "abort", "pause", "resume", "retry", "approve"])

NAMES = st.sampled_from(["s0", "s1", "s2", "s3"])
WEIGHTS = st.one_of(st.none(), st.integers(0, 100))
APPROVALS = st.sampled_from([None, "Required"])


class Rollouts(RuleBasedStateMachine):
    """A world shaken at random; `World.check` judges every decision, the invariants judge what is left behind."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.number = 0

    @initialize(
        weights=st.lists(st.one_of(st.none(), st.integers(0, 100)), max_size=3),
        replicas=st.integers(1, 5),
        approval=st.booleans(),
        recreate=st.sampled_from([False, False, False, True]),
    )
    def begin(self, weights: list[int | None], replicas: int, approval: bool, recreate: bool) -> None:
        weights = [w if w is None else max(x or 0 for x in weights[: i + 1]) for i, w in enumerate(weights)]
        steps = tuple(RolloutStep(f"s{i}", w, "10s", "Required" if approval else None) for i, w in enumerate(weights))
        strategy = "Recreate" if recreate else "Canary"
        self.world.spec = msgspec.structs.replace(CANARY, steps=steps, strategy=strategy)
        self.world.replicas = replicas
        self.world.run(60)
        assert self.world.stable == "a"

    @rule(ticks=st.integers(1, 60), tick=st.sampled_from([0.5, 1.0, 7.0]))
    def time(self, ticks: int, tick: float) -> None:
        self.world.run(ticks * tick, tick)

    @rule(hash=HASHES, deployable=st.booleans())
    def new_spec(self, hash: str, deployable: bool) -> None:
        self.world.candidate = hash
        self.world.deployable = deployable or hash == self.world.stable
        self.world.reconcile()

    @rule(hash=HASHES)
    def breaks(self, hash: str) -> None:
        self.world.broken ^= {hash}
        self.world.reconcile()

    @rule(works=st.booleans())
    def gateway(self, works: bool) -> None:
        self.world.gateway_works = works

    @rule(replicas=st.integers(1, 5))
    def scale(self, replicas: int) -> None:
        self.world.replicas = replicas
        self.world.reconcile()

    @rule(
        steps=st.lists(
            st.builds(RolloutStep, NAMES, WEIGHTS, st.just("10s"), APPROVALS), max_size=4, unique_by=lambda s: s.name
        )
    )
    def edit_steps(self, steps: list[RolloutStep]) -> None:
        """Weights that are given may not go down: the API server sees to that."""
        given = iter(sorted(step.weight for step in steps if step.weight is not None))
        edited = [step if step.weight is None else msgspec.structs.replace(step, weight=next(given)) for step in steps]
        self.world.spec = msgspec.structs.replace(self.world.spec, steps=tuple(edited))
        self.world.reconcile()

    @rule(verb=VERBS, hash=HASHES, step=NAMES)
    def act(self, verb: str, hash: str, step: str) -> None:
        w, self.number = self.world, self.number + 1
        before = w.status
        w.action = f"{verb} {hash}{f'/{step}' if verb == 'approve' else ''} #{self.number}"
        w.reconcile()
        if before and before.candidate != hash and verb != "retry":
            assert w.told("ActionRefused")
            assert w.events[-1].reason != "Aborted"

    @rule()
    def abort_in_flight(self) -> None:
        w, self.number = self.world, self.number + 1
        w.reconcile()
        flight = w.status
        if flight is None:
            return
        refused = len(w.told("ActionRefused"))
        w.action = f"abort {flight.candidate} #{self.number}"
        w.reconcile()
        if len(w.told("ActionRefused")) > refused:
            return
        assert flight.candidate in w.failed
        w.gateway_works = True
        w.run(2)
        if not flight.recreate:
            assert w.weights == {flight.stable: 100}
            w.run(3)
            assert w.accepted

    @invariant()
    def same_observation_changes_nothing(self) -> None:
        w = self.world
        first = w.reconcile()
        again = advance(w.observe(), w.status, w.spec, w.now)
        assert (again.rollout, again.stable, again.weights) == (first.rollout, first.stable, first.weights)
        assert not again.events

    @invariant()
    def failed_revisions_are_left_alone(self) -> None:
        w = self.world
        flight = w.status
        if flight and flight.phase not in ("RollingBack", "Retaining"):
            assert flight.candidate not in w.failed

    def teardown(self) -> None:
        """Once the world is well again, it ends with one stable revision that has everything."""
        w = self.world
        w.broken, w.gateway_works, w.deployable, w.failed = set(), True, True, ()
        for _ in range(8):
            self.number += 1
            w.action = f"promote {w.candidate} #{self.number}"
            w.run(60)
        if w.stables:
            assert (w.stable, w.phase, w.weights, set(w.pods)) == (w.candidate, "", {w.candidate: 100}, {w.candidate})


Rollouts.TestCase.settings = settings(
    max_examples=150, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestRollouts = Rollouts.TestCase
