"""`/healthz`, `/readyz` and `/metrics`. A standby is alive and ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web


class Health:
    """Serves the probes on all addresses. `ready` is asked at each probe; `page` renders the metrics."""

    def __init__(self, port: int, ready: Callable[[], bool], page: Callable[[], bytes]) -> None:
        self._port, self._ready, self._page = port, ready, page
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen; OSError if the port is taken."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, port=self._port, shutdown_timeout=0.5).start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, request: web.Request) -> web.Response:
        await asyncio.sleep(0)
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        ready = self._ready()
        return web.Response(text="ok\n" if ready else "not ready\n", status=200 if ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._page(), content_type="text/plain")
