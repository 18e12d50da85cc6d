"""How many CPUs the worker takes itself to have."""

from __future__ import annotations

import os

import pytest

from optimodel.api import contract
from optimodel.worker import system


@pytest.mark.parametrize(("limit", "cpus"), [("250", 1), ("1000", 1), ("1900", 1), ("0", 1)])
def test_a_limit_bounds_the_threads(monkeypatch: pytest.MonkeyPatch, limit: str, cpus: int) -> None:
    """More threads than the limit allows wait for each other in turn. Parts of a CPU are rounded down, but for the first."""
    monkeypatch.setenv(contract.MILLICPUS_ENV, limit)
    assert system.cpus() == cpus


@pytest.mark.parametrize("limit", [None, "", "96000"])
def test_no_more_than_the_process_may_run_on(monkeypatch: pytest.MonkeyPatch, limit: str | None) -> None:
    """A container without a limit is told the CPUs of the node, and a worker by hand nothing."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    if limit is None:
        monkeypatch.delenv(contract.MILLICPUS_ENV, raising=False)
    else:
        monkeypatch.setenv(contract.MILLICPUS_ENV, limit)
    assert system.cpus() == 3
