"""A work queue with controller-runtime's contract.

One key is never in two workers; a key added many times waits once; a key added while it is worked on is worked on again;
errors come back after a growing, jittered delay of their own; nothing sleeps in a worker.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, Protocol, TypeVar

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)


class Gate(Protocol):
    """Whether work may be done now."""

    async def opened(self) -> None:
        """Return once it may."""


class WorkQueue(Generic[K]):
    """Deduplicating, delaying, backing-off queue of keys. Delays are seconds on the loop's clock."""

    def __init__(self, first: float = 1.0, longest: float = 300.0) -> None:
        self._first, self._longest = first, longest
        self._ready: deque[K] = deque()
        self._dirty: set[K] = set()
        self._working: set[K] = set()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()

    def add(self, key: K) -> None:
        """Work on `key` as soon as a worker is free, or again if one is at it."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._working:
            self._push(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Work on `key` in `seconds`; the earliest of several such wishes counts."""
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + seconds:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self.add, key)

    def fail(self, key: K, at_most: float | None = None, at_least: float = 0.0) -> float:
        """Work on `key` again after its next back-off delay, which is returned; `at_most` caps it, but it is never under `at_least`."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        longest = self._longest if at_most is None else at_most
        delay = min(longest, self._first * 2.0 ** min(failures - 1, 30)) * random.uniform(0.75, 1.25)
        delay = max(delay, at_least * random.uniform(1.0, 1.25))
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """The key's errors are over."""
        self._failures.pop(key, None)

    def flush(self) -> None:
        """Work now on every key that waits because of an error."""
        for key in [key for key in self._failures if key in self._timers]:
            self.add(key)

    async def get(self) -> K:
        """The next key; call `done` with it afterwards."""
        while not self._ready:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except BaseException:
                if waiter.done() and not waiter.cancelled():
                    self._wake()
                elif waiter in self._waiters:
                    self._waiters.remove(waiter)
                raise
        key = self._ready.popleft()
        self._dirty.discard(key)
        self._working.add(key)
        return key

    def done(self, key: K) -> None:
        """The worker has finished with `key`."""
        self._working.discard(key)
        if key in self._dirty:
            self._push(key)

    def failures(self, key: K) -> int:
        """How often the key failed in a row."""
        return self._failures.get(key, 0)

    @property
    def depth(self) -> int:
        """Keys that could be worked on now."""
        return len(self._ready)

    @property
    def idle(self) -> bool:
        """Nothing ready and nothing in work; timers may be pending."""
        return not self._dirty and not self._working

    def close(self) -> None:
        """Drop all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _push(self, key: K) -> None:
        self._ready.append(key)
        self._wake()

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


class Patience(Protocol):
    """How long an error makes a key wait: at least, and at most in seconds; None = the queue's longest back-off."""

    def __call__(self, error: BaseException) -> tuple[float, float | None]: ...


async def work(
    queue: WorkQueue[K],
    reconcile: Callable[[K], Awaitable[float | None]],
    gate: Gate,
    patience: Patience,
    observe: Callable[[float, BaseException | None], None] = lambda seconds, error: None,
) -> None:
    """One worker: take keys for ever. A result of `reconcile` is the delay in seconds until the next look, None = none.

    `observe` is told the seconds spent and the error, if any, of each reconcile.
    A cancellation that is not this task's own counts as an error.
    """
    while True:
        await gate.opened()
        key = await queue.get()
        error: BaseException | None = None
        again: float | None = None
        began = time.perf_counter()
        try:
            again = await reconcile(key)
        except asyncio.CancelledError as caught:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                queue.done(key)
                raise
            error = caught
        except Exception as caught:
            error = caught
        _settle(queue, key, again, error, patience)
        observe(time.perf_counter() - began, error)


def _settle(queue: WorkQueue[K], key: K, again: float | None, error: BaseException | None, patience: Patience) -> None:
    queue.done(key)
    if error is not None:
        least, most = patience(error)
        delay = queue.fail(key, most, least)
        log.warning("%s: %s: %s; again in %.1f s", key, type(error).__name__, error, delay)
        log.debug("traceback", exc_info=error)
        return
    queue.forget(key)
    if again is not None:
        queue.add_after(key, again)
