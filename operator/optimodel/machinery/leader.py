"""Leader election by a Lease, on the monotonic clock.

The leader renews every 2 s. 10 s after its last renewal began, its writes stop; only after 15 s without a change may another
take the Lease, so two never write at once. A leader that lost touch stays and goes on when the Lease is still its own or free.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import random
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from ..errors import ApiError, Conflict, NotFound, NotLeading
from .store import Obj

log = logging.getLogger(__name__)


class LeaseApi(Protocol):
    """What the election asks of the API."""

    async def get_lease(self, namespace: str, name: str, seconds: float) -> Obj:
        """The Lease; NotFound if there is none."""

    async def create_lease(self, namespace: str, lease: Obj, seconds: float) -> Obj:
        """Conflict if it exists."""

    async def replace_lease(self, namespace: str, lease: Obj, seconds: float) -> Obj:
        """Conflict if its resourceVersion is no longer the newest."""


class Lost(Exception):
    """Another process holds the Lease: this one must end."""


class Outcome(enum.Enum):
    """Of one try to hold the Lease."""

    HELD = 1
    OTHER = 2
    UNKNOWN = 3


def identity() -> str:
    """The pod's uid (`POD_UID`), else host name and a random part."""
    return os.environ.get("POD_UID") or f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"


@dataclass
class Leader:
    """One candidate. Durations are seconds."""

    api: LeaseApi
    namespace: str
    name: str
    identity: str = field(default_factory=identity)
    duration: float = 15.0
    deadline: float = 10.0
    period: float = 2.0
    clock: Callable[[], float] = time.monotonic
    _renewed: float = float("-inf")
    _seen: tuple[str, str] = ("", "")
    _seen_at: float = float("-inf")
    _open: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def leading(self) -> bool:
        """Whether writes are allowed now."""
        return self.clock() - self._renewed < self.deadline

    def budget(self) -> float:
        """Seconds that a write begun now may take; raises NotLeading when none may begin."""
        if not self.leading:
            self._open.clear()
            raise NotLeading("the Lease has not been renewed in time")
        return self._renewed + self.duration - 0.5 - self.clock()

    async def opened(self) -> None:
        """Return once writes are allowed."""
        while not self.leading:
            self._open.clear()
            await self._open.wait()

    async def acquire(self) -> None:
        """Return once the Lease is ours. Waits as long as another renews it, or the API is away."""
        while True:
            if await self._try() is Outcome.HELD:
                return
            expires = max(0.05, self._seen_at + self.duration - self.clock())
            await asyncio.sleep(min(expires, self.period / 2 * random.uniform(0.8, 1.2)))

    async def hold(self, regained: Callable[[], None]) -> None:
        """Renew for ever; raises Lost when another holds it. `regained` is called when the API answers again after
        it did not, or writes are allowed again after a gap: watches may have missed something meanwhile."""
        unbroken = True
        while True:
            await asyncio.sleep(self.period)
            unbroken &= self.leading
            outcome = await self._try()
            if outcome is Outcome.OTHER:
                self._renewed = float("-inf")
                raise Lost(f"the Lease is held by {self._seen[0]}")
            if outcome is Outcome.HELD and not unbroken:
                log.info("the API answers again and the Lease is ours")
                regained()
            unbroken = outcome is Outcome.HELD
            if not self.leading:
                self._open.clear()

    async def release(self, seconds: float = 2.0) -> None:
        """Stop writing and free the Lease, so that a standby need not wait."""
        held, self._renewed = self._renewed > float("-inf"), float("-inf")
        self._open.clear()
        if not held:
            return
        try:
            lease = await self.api.get_lease(self.namespace, self.name, seconds)
            if lease["spec"].get("holderIdentity") == self.identity:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
                await self.api.replace_lease(self.namespace, lease, seconds)
        except (ApiError, KeyError) as error:
            log.warning("the Lease was not released: %s", error)

    async def _try(self) -> Outcome:
        began = self.clock()
        try:
            async with asyncio.timeout(self.period * 2):
                outcome = await self._take(self.period * 2)
        except Conflict:
            return Outcome.UNKNOWN
        except (ApiError, TimeoutError) as error:
            log.warning("Lease: %s", error or "time-out")
            self._seen = ("", "")  # what could not be read has not been seen to stand still: the holder gets its chance
            return Outcome.UNKNOWN
        if outcome is Outcome.HELD:
            self._renewed = began
            self._open.set()
        return outcome

    async def _take(self, seconds: float) -> Outcome:
        try:
            lease = await self.api.get_lease(self.namespace, self.name, seconds)
        except NotFound:
            meta = {"name": self.name, "namespace": self.namespace}
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": self._spec({})}
            await self.api.create_lease(self.namespace, body, seconds)
            return Outcome.HELD
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        seen = (holder, lease["metadata"]["resourceVersion"])
        if seen != self._seen:
            self._seen, self._seen_at = seen, self.clock()
        if holder not in ("", self.identity) and self.clock() - self._seen_at < self.duration:
            return Outcome.OTHER
        lease["spec"] = self._spec(spec)
        await self.api.replace_lease(self.namespace, lease, seconds)
        return Outcome.HELD

    def _spec(self, old: Obj) -> Obj:
        same = old.get("holderIdentity") == self.identity
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(self.duration),
            "renewTime": _now(),
            "acquireTime": old["acquireTime"] if same else _now(),
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (0 if same else 1),
        }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
