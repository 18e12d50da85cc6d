"""The queue's contract, on a clock that does not wait."""

import asyncio
import itertools
import random

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.strategies import sampled_from

from optimodel.app import patience
from optimodel.errors import TooMany, Transient
from optimodel.machinery.queue import WorkQueue, work

pytestmark = pytest.mark.looptime


class Open:
    async def opened(self) -> None:
        return


async def test_a_key_added_many_times_is_worked_on_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(3):
        queue.add("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert queue.idle


async def test_a_key_added_while_it_is_worked_on_is_worked_on_again_and_never_twice_at_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    assert queue.depth == 0
    queue.done("a")
    assert await queue.get() == "a"


async def test_the_earliest_of_several_delays_counts() -> None:
    queue: WorkQueue[str] = WorkQueue()
    loop = asyncio.get_running_loop()
    queue.add_after("a", 60)
    queue.add_after("a", 5)
    queue.add_after("a", 90)
    began = loop.time()
    assert await queue.get() == "a"
    assert 5 <= loop.time() - began < 6
    queue.done("a")
    assert not queue._timers


async def test_errors_come_back_after_growing_delays_that_a_success_resets() -> None:
    queue: WorkQueue[str] = WorkQueue(first=1, longest=300)
    delays = [queue.fail("a") for _ in range(12)]
    assert all(0.75 * 2**n <= delay <= 1.25 * 2**n for n, delay in enumerate(delays[:8]))
    assert max(delays) <= 375
    queue.forget("a")
    assert queue.fail("a") <= 1.25
    assert queue.fail("b", at_most=0.5) <= 0.625
    queue.close()


async def test_flush_brings_failed_keys_back_at_once_and_leaves_other_timers() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(9):
        queue.fail("failed")
    queue.add_after("later", 100)
    queue.flush()
    assert queue.depth == 1
    assert await queue.get() == "failed"
    queue.close()


async def test_a_waiting_getter_that_is_cancelled_loses_no_key() -> None:
    queue: WorkQueue[str] = WorkQueue()
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    assert await asyncio.wait_for(second, 1) == "a"


async def test_workers_run_keys_in_parallel_but_never_one_key_twice() -> None:
    queue: WorkQueue[int] = WorkQueue()
    at_work: set[int] = set()
    most, runs = 0, 0
    chance = random.Random(1)

    async def reconcile(key: int) -> float | None:
        nonlocal most, runs
        assert key not in at_work
        at_work.add(key)
        most, runs = max(most, len(at_work)), runs + 1
        await asyncio.sleep(chance.random())
        at_work.discard(key)
        if chance.random() < 0.2:
            raise ValueError("again")
        return None

    workers = [asyncio.create_task(work(queue, reconcile, Open(), lambda error: (0.0, 1.0))) for _ in range(4)]
    for _ in range(300):
        queue.add(chance.randrange(10))
        await asyncio.sleep(chance.random() * 0.2)
    async with asyncio.timeout(600):
        while not queue.idle or queue._timers:  # noqa: ASYNC110
            await asyncio.sleep(1)
    assert most == 4
    assert runs > 60
    for worker in workers:
        worker.cancel()


async def test_a_result_in_seconds_is_when_the_next_look_happens() -> None:
    queue: WorkQueue[str] = WorkQueue()
    times: list[float] = []

    async def reconcile(key: str) -> float | None:
        times.append(asyncio.get_running_loop().time())
        return 30.0 if len(times) < 3 else None

    worker = asyncio.create_task(work(queue, reconcile, Open(), lambda error: (0.0, None)))
    queue.add("a")
    await asyncio.sleep(200)
    assert [round(after - before) for before, after in itertools.pairwise(times)] == [30, 30]
    worker.cancel()


async def test_who_is_asked_to_slow_down_waits_as_long_as_that() -> None:
    queue: WorkQueue[str] = WorkQueue()
    times: list[float] = []

    async def reconcile(key: str) -> float | None:
        times.append(asyncio.get_running_loop().time())
        raise TooMany("slower", retry_after=30) if len(times) < 4 else Transient("gone")

    worker = asyncio.create_task(work(queue, reconcile, Open(), patience))
    queue.add("a")
    await asyncio.sleep(150)
    worker.cancel()
    waits = [after - before for before, after in itertools.pairwise(times)]
    assert all(30 <= wait < 38 for wait in waits[:3]) and all(wait < 4 for wait in waits[3:]) and len(waits) > 10
    queue.close()


KEYS = ("a", "b", "c")


class Model(RuleBasedStateMachine):
    """Against the plainest model there is: which keys wait, which are worked on."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.queue: WorkQueue[str] = WorkQueue()
        self.waiting: list[str] = []
        self.working: set[str] = set()
        self.again: set[str] = set()

    @rule(key=sampled_from(KEYS))
    def add(self, key: str) -> None:
        self.queue.add(key)
        if key in self.working:
            self.again.add(key)
        elif key not in self.waiting:
            self.waiting.append(key)

    @precondition(lambda self: self.waiting)
    @rule()
    def get(self) -> None:
        key = self.loop.run_until_complete(self.queue.get())
        assert key == self.waiting.pop(0)
        self.working.add(key)

    @precondition(lambda self: self.working)
    @rule()
    def done(self) -> None:
        key = min(self.working)
        self.queue.done(key)
        self.working.discard(key)
        if key in self.again:
            self.again.discard(key)
            self.waiting.append(key)

    @invariant()
    def depth(self) -> None:
        assert self.queue.depth == len(self.waiting)
        assert self.queue.idle == (not self.waiting and not self.working)

    def teardown(self) -> None:
        self.loop.close()


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=30)
TestModel.pytestmark = []
