"""Pollers as event sources: bounded in number, time and bytes. Nothing here reaches beyond pod addresses, and no answer is no news."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import aiohttp
from yarl import URL

log = logging.getLogger(__name__)

SECONDS = 2.0
LIMIT = 16 * 1024


class Target(Protocol):
    """Something to poll; `uid` is of the object that the answer is about."""

    @property
    def uid(self) -> str: ...


T = TypeVar("T", bound=Target)
R = TypeVar("R")


class Unknown(Exception):
    """The pod did not answer: nothing is known, which is no failure."""


class Oversized(Unknown):
    """The pod answered, with more than is read."""


@dataclass(slots=True)
class _Watch(Generic[T]):
    target: T
    timer: asyncio.TimerHandle | None = None
    dropped: bool = field(default=False)


class Poller(Generic[T, R]):
    """Polls what is wanted. `ask` raises `Unknown` without an answer;
    `pause` is the seconds until the next question after a
    result (None = after no answer), or None to stop; `learnt` is told (key, uid, result),
    and (key, uid, None) when nobody wants it any more."""

    def __init__(
        self,
        ask: Callable[[T], Awaitable[R]],
        pause: Callable[[R | None], float | None],
        learnt: Callable[[Hashable, str, R | None], None],
        workers: int = 8,
    ) -> None:
        self._ask, self._pause, self._learnt, self._workers = ask, pause, learnt, workers
        self._wanted: dict[Hashable, dict[str, _Watch[T]]] = {}
        self._due: asyncio.Queue[tuple[Hashable, _Watch[T]]] = asyncio.Queue()

    def want(self, key: Hashable, targets: tuple[T, ...]) -> None:
        """From now on poll exactly `targets` for `key`."""
        old = self._wanted.get(key)
        if not targets and not old:
            return
        known = old or {}
        new = {target.uid: target for target in targets}
        for uid in [uid for uid, watch in known.items() if new.get(uid) != watch.target]:
            self._drop(known.pop(uid))
            if uid not in new:
                self._learnt(key, uid, None)
        for uid, target in new.items():
            if uid not in known:
                watch = known[uid] = _Watch(target)
                self._due.put_nowait((key, watch))
        if known:
            self._wanted[key] = known
        else:
            self._wanted.pop(key, None)

    async def run(self) -> None:
        """Poll for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key, watch = await self._due.get()
            if watch.dropped:
                continue
            result: R | None = None
            try:
                result = await self._ask(watch.target)
            except Unknown as error:
                log.debug("%s: %s", watch.target.uid, error)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
            except Exception:
                log.exception("poll of %s", watch.target.uid)
            if watch.dropped:
                continue
            if result is not None:
                self._learnt(key, watch.target.uid, result)
            pause = self._pause(result)
            if pause is not None:
                watch.timer = asyncio.get_running_loop().call_later(pause, self._due.put_nowait, (key, watch))

    def _drop(self, watch: _Watch[T]) -> None:
        watch.dropped = True
        if watch.timer is not None:
            watch.timer.cancel()


class PodHttp:
    """HTTP to pods: by address only, within bounds of time and bytes, no redirects, no proxy."""

    def __init__(self) -> None:
        connector = aiohttp.TCPConnector(limit=32, force_close=True, use_dns_cache=False)
        self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def call(
        self,
        method: str,
        url: str,
        json: Mapping[str, Any] | None = None,
        *,
        seconds: float = SECONDS,
        limit: int = LIMIT,
    ) -> tuple[int, bytes]:
        """Status and body, which must come within `seconds` and have at most `limit` bytes.

        Raises:
            Oversized: the body has more.
            Unknown: there is no answer, or the host is no address.
        """
        where = URL(url)
        try:
            ipaddress.ip_address(where.host or "")
        except ValueError as error:
            raise Unknown(f"{url}: not an address") from error
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._session.request(
                method, where, json=json, allow_redirects=False, timeout=timeout
            ) as response:
                chunks, size = [], 0
                async for chunk in response.content.iter_any():
                    chunks.append(chunk)
                    size += len(chunk)
                    if size > limit:
                        raise Oversized(f"{url}: answer over {limit} bytes")
                return response.status, b"".join(chunks)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unknown(f"{url}: {error or 'time-out'}") from error
