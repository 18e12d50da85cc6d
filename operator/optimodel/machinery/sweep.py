"""Barrier and sweep: one function per kind, a metadata-only LIST compared with the store.

At start it is the barrier: work begins once every listed object has arrived. Later it heals what a watch missed: objects
deleted unseen leave the store, objects that never arrived are fetched.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import ApiError, NotFound
from .store import Obj, Store

log = logging.getLogger(__name__)

MISSING = "Missing"
"""Fact by kind: this cluster does not have it."""


@dataclass(frozen=True)
class Listing:
    """A LIST without bodies: the version it stands for, and the metadata of each object."""

    version: int
    metadata: Sequence[Mapping[str, Any]]


class Lister(Protocol):
    """What a sweep asks of the API."""

    async def list_metadata(self, kind: str) -> Listing:
        """All objects of a kind that we watch; NotFound if the cluster does not have the kind."""

    async def get(self, kind: str, namespace: str, name: str) -> Obj:
        """One object; NotFound if there is none."""


class Sweeper:
    """Keeps the store honest. `changed` is told each object that came or went outside a watch, `served` each kind that came or went.

    A kind that this cluster does not have is the fact "Missing" under its name.
    `interval` and `patience` are seconds: between sweeps, and without any arrival before a listed object is fetched.
    """

    def __init__(
        self,
        store: Store,
        lister: Lister,
        kinds: Sequence[str],
        changed: Callable[[str, Obj], None],
        served: Callable[[str], None],
        interval: float = 300.0,
        patience: float = 3.0,
    ) -> None:
        self._store, self._lister, self._kinds = store, lister, tuple(kinds)
        self._changed, self._served = changed, served
        self._interval, self._patience = interval, patience
        self._poked: set[str] = set()
        self._poke = asyncio.Event()
        self.missing: set[str] = set()
        """Kinds that this cluster does not have."""

    async def barrier(self) -> None:
        """Return once every listed object of every kind is in the store. Tries for ever while the API fails."""
        await asyncio.gather(*(self._persist(kind) for kind in self._kinds))

    async def run(self) -> None:
        """Sweep every kind each interval, absent kinds and poked kinds sooner. Never returns."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._interval * random.uniform(0.9, 1.1)
        while True:
            wait = min(30.0 if self.missing else self._interval, max(0.0, due - loop.time()))
            try:
                async with asyncio.timeout(wait):
                    await self._poke.wait()
                await asyncio.sleep(1.0)
            except TimeoutError:
                pass
            kinds = set(self._poked) | set(self.missing)
            self._poked.clear()
            self._poke.clear()
            if loop.time() >= due:
                kinds, due = set(self._kinds), loop.time() + self._interval * random.uniform(0.9, 1.1)
            for kind in sorted(kinds):
                await self._attempt(kind)

    def poke(self, *kinds: str) -> None:
        """Sweep these kinds soon, all if none is named: their watches may have missed a deletion."""
        self._poked.update(kinds or self._kinds)
        self._poke.set()

    async def sweep(self, kind: str) -> None:
        """Compare one kind with the API once and mend the store."""
        try:
            listing = await self._lister.list_metadata(kind)
        except NotFound:
            listing = Listing(2**63, ())
            self._note(kind, missing=True)
        else:
            self._note(kind, missing=False)
        self._drop(kind, listing)
        for meta in await self._await_arrivals(kind, listing):
            await self._fetch(kind, meta)

    def _note(self, kind: str, missing: bool) -> None:
        (self.missing.add if missing else self.missing.discard)(kind)
        if self._store.set_fact(MISSING, kind, missing or None):
            self._served(kind)

    async def _persist(self, kind: str) -> None:
        delay = 0.2
        while not await self._attempt(kind):
            await asyncio.sleep(delay * random.uniform(0.75, 1.25))
            delay = min(2.0, delay * 2)

    async def _attempt(self, kind: str) -> bool:
        try:
            await self.sweep(kind)
        except ApiError as error:
            log.warning("sweep of %s: %s", kind, error)
            return False
        return True

    def _drop(self, kind: str, listing: Listing) -> None:
        listed = {meta["uid"] for meta in listing.metadata}
        for namespace, name, uid, version in self._store.names(kind):
            if uid not in listed and version <= listing.version:
                body = self._store.get(kind, namespace, name)
                if body is not None and self._store.remove(kind, _as_of(body, listing.version), forever=False):
                    log.info("%s %s/%s went unseen", kind, namespace, name)
                    self._changed(kind, body)

    async def _await_arrivals(self, kind: str, listing: Listing) -> list[Mapping[str, Any]]:
        """Wait for the watch to bring what was listed; what it does not bring."""
        loop = asyncio.get_running_loop()
        awaited = list(reversed(listing.metadata))
        deadline = loop.time() + self._patience
        while True:
            before = len(awaited)
            while awaited and self._arrived(kind, awaited[-1]):
                awaited.pop()
            if len(awaited) < before:
                deadline = loop.time() + self._patience
            if not awaited or loop.time() >= deadline:
                return [meta for meta in awaited if not self._arrived(kind, meta)]
            await asyncio.sleep(0.05)

    def _arrived(self, kind: str, meta: Mapping[str, Any]) -> bool:
        kept = self._store.version(kind, meta.get("namespace", ""), meta["name"])
        listed = int(meta["resourceVersion"])
        return kept >= listed or self._store.gone(meta["uid"], listed)

    async def _fetch(self, kind: str, meta: Mapping[str, Any]) -> None:
        try:
            body = await self._lister.get(kind, meta.get("namespace", ""), meta["name"])
        except NotFound:
            return
        if self._store.put(kind, body):
            self._changed(kind, body)


def _as_of(body: Obj, version: int) -> Obj:
    """The object as a list of this version had none of it: gone, or without the label that we watch by until a newer version
    has it again."""
    return {**body, "metadata": {**body["metadata"], "resourceVersion": str(version)}}
