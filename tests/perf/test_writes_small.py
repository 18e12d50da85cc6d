"""Thirty objects at once on a real control plane: what the operator writes, counted; times are for `make bench-operator`."""

import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from tests.perf import models
from tests.perf.bench import STATUS, quiet
from tests.perf.cluster import OPERATOR, Bench
from tests.perf.figures import Audit, split
from tests.perf.stages import result
from tests.perf.subject import Operator

COUNT = 30
APPLIES = {
    "patch modelrevisions": 1,
    "patch jobs": 1,
    "patch deployments": 1,
    "patch services": 2,
    "patch horizontalpodautoscalers": 1,
    "patch modelrevisions/status": 1,
}
"""Writes for one object beside its own status: one apply per owned object, and the artifact into its revision."""
STATUS_PATCHES = 6 + len(result().steps)
pytestmark = pytest.mark.asyncio(loop_scope="module")
NAMES = [models.name(number) for number in range(COUNT)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[tuple[Bench, Operator, Audit]]:
    async with Bench() as bench:
        operator, audit = Operator(bench), Audit(bench.control.audit_log, OPERATOR)
        await operator.start()
        try:
            await operator.leading()
            await models.ready(bench.people, NAMES, 240, models.create(bench.people, NAMES))
            await quiet(audit)
            yield bench, operator, audit
        finally:
            await operator.stop()


async def test_each_owned_object_is_applied_once(world: Any) -> None:
    _, _, audit = world
    counts, _ = split(audit.writes())
    del counts[STATUS]
    assert counts == Counter({what: number * COUNT for what, number in APPLIES.items()})


async def test_status_is_patched_for_what_people_wait_for(world: Any) -> None:
    _, _, audit = world
    patches = Counter(write.name for write in audit.writes() if write.what == STATUS)
    assert set(patches) == set(NAMES)
    assert max(patches.values()) <= STATUS_PATCHES


async def test_nothing_is_written_while_nothing_happens(world: Any) -> None:
    _, _, audit = world
    before = audit.writes()
    await quiet(audit, 20)
    assert audit.writes() == before


async def test_a_restart_writes_nothing(world: Any) -> None:
    _, operator, audit = world
    before = audit.writes()
    assert await operator.stop() == 0
    await operator.start()
    await operator.drained(time.monotonic(), COUNT)
    assert audit.writes() == before
