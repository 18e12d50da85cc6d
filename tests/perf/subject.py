"""The operator under measurement: an ordinary process with a kubeconfig of its own user."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from pathlib import Path

import aiohttp
from devcluster.control import free_port
from tests.perf.cluster import OPERATOR, PYTHONPATH, Bench

_SAMPLE = re.compile(r"^(\w+)(?:\{[^}]*\})? ([0-9.e+-]+)$", re.M)


class Operator:
    """One operator process; `module` is what python runs."""

    def __init__(self, bench: Bench, *module: str) -> None:
        self._module = module or ("-m", "optimodel.app")
        self._port = free_port()
        self.log = bench.api.folder / "log/operator.log"
        self._env = os.environ | {
            "KUBECONFIG": str(bench.kubeconfig(OPERATOR)),
            "PYTHONPATH": PYTHONPATH,
            "POD_NAMESPACE": "optimodel-system",
            "OPTIMODEL_WORKER_IMAGE": "worker:1",
            "OPTIMODEL_OPERATOR_IMAGE": "operator:1",
            "OPTIMODEL_HEALTH_PORT": str(self._port),
        }
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Its pid."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start the process; returns at once."""
        log = self.log.open("ab")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *self._module, env=self._env, stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL
        )
        log.close()

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self._process.wait(), 30)

    async def metrics(self) -> dict[str, float]:
        """Samples of its metrics page, summed over labels; empty while it does not answer."""
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self._port}/metrics") as page,
            ):
                text = await page.text()
        except aiohttp.ClientError:
            return {}
        found: dict[str, float] = {}
        for name, value in _SAMPLE.findall(text):
            found[name] = found.get(name, 0.0) + float(value)
        return found

    async def reconciles(self) -> float:
        """How many reconciles it has done."""
        return (await self.metrics()).get("optimodel_reconciles_total", 0.0)

    async def leading(self, seconds: float = 60.0) -> None:
        """Return once it may write."""
        end = time.monotonic() + seconds
        while not (await self.metrics()).get("optimodel_leading"):
            if time.monotonic() > end or self._process is None or self._process.returncode is not None:
                raise RuntimeError(f"the operator does not lead:\n{self.log.read_text()[-2000:]}")
            await asyncio.sleep(0.1)

    async def drained(
        self, since: float, count: int, quiet: float = 4.0, seconds: float = 120.0
    ) -> tuple[float, float]:
        """Seconds from `since` (monotonic) to the first and the last of at least `count` reconciles, seen to be the last when
        nothing is queued and none follows for `quiet` seconds."""
        first = last = 0.0
        done, end = 0.0, time.monotonic() + seconds
        while True:
            page, now = await self.metrics(), time.monotonic()
            seen = page.get("optimodel_reconciles_total", 0.0)
            if seen != done:
                first, last, done = first or now - since, now - since, seen
            if done >= count and not page.get("optimodel_queue_depth") and now - since - last > quiet:
                return first, last
            if now > end:
                raise RuntimeError(f"not drained: {done:g} reconciles, depth {page.get('optimodel_queue_depth')}")
            await asyncio.sleep(0.1)


def recorder(target: Path) -> tuple[str, ...]:
    """Arguments of python for an operator that also notes its writes in `target`."""
    return ("-m", "tests.perf.recording", str(target))
