"""Kubernetes Events: aggregated, limited in rate, never in the way of a reconcile."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from ..errors import ApiError, Conflict, NotFound, NotLeading
from .store import Obj

log = logging.getLogger(__name__)

_KEPT = 4096
_QUEUED = 1000


class EventApi(Protocol):
    """What the recorder asks of the API."""

    async def create_event(self, namespace: str, event: Obj) -> Obj:
        """Conflict if an Event of this name exists."""

    async def patch_event(self, namespace: str, name: str, patch: Obj) -> Obj:
        """NotFound if it has expired."""


class Recorder:
    """Events by one component. The same event on the same object within `window` seconds becomes a count; an object gets
    `burst` Events at once and then one every `pace` seconds; the rest are dropped."""

    def __init__(
        self,
        api: EventApi,
        component: str,
        window: float = 600.0,
        burst: int = 25,
        pace: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api, self._component, self._window, self._burst, self._pace = api, component, window, burst, pace
        self._clock = clock
        self._queue: asyncio.Queue[tuple[Obj, str, str, str]] = asyncio.Queue(_QUEUED)
        self._known: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._tokens: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def record(self, obj: Mapping[str, Any], type: str, reason: str, message: str) -> None:
        """Note an event of `type` Normal or Warning on `obj`; returns at once."""
        meta = obj["metadata"]
        if not self._allowed(meta["uid"]):
            return
        about = {key: meta[key] for key in ("namespace", "name", "uid", "resourceVersion") if key in meta}
        about |= {"apiVersion": obj["apiVersion"], "kind": obj["kind"]}
        try:
            self._queue.put_nowait((about, type, reason, message[:1024]))
        except asyncio.QueueFull:
            log.debug("event dropped: %s", reason)

    async def run(self) -> None:
        """Send what was recorded. Never returns."""
        while True:
            item = await self._queue.get()
            try:
                await self._send(*item)
            except (ApiError, NotLeading) as error:
                log.debug("event lost: %s", error)

    async def _send(self, about: Obj, type: str, reason: str, message: str) -> None:
        text = "\0".join((about["uid"], type, reason, message))
        name = f"{about['name'][:200]}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        namespace = about.get("namespace", "default")
        since, count = self._known.get(name, (float("-inf"), 0))
        now, stamp = self._clock(), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        fresh = now - since > self._window
        self._known[name] = (now if fresh else since, 1 if fresh else count + 1)
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
        if not fresh:
            try:
                await self._api.patch_event(namespace, name, {"count": count + 1, "lastTimestamp": stamp})
                return
            except NotFound:
                pass
        source = {"component": self._component}
        body: Obj = {
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": about,
            "type": type,
            "reason": reason,
        }
        body |= {"message": message, "firstTimestamp": stamp, "lastTimestamp": stamp, "count": 1, "source": source}
        body |= {"reportingComponent": self._component, "apiVersion": "v1", "kind": "Event"}
        try:
            await self._api.create_event(namespace, body)
        except Conflict:
            await self._api.patch_event(namespace, name, {"lastTimestamp": stamp})

    def _allowed(self, uid: str) -> bool:
        now = self._clock()
        tokens, at = self._tokens.pop(uid, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - at) / self._pace)
        allowed = tokens >= 1
        self._tokens[uid] = (tokens - 1 if allowed else tokens, now)
        if len(self._tokens) > _KEPT:
            self._tokens.popitem(last=False)
        return allowed
