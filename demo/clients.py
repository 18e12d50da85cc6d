"""What users of a served model send: one question over HTTP or gRPC, and an open loop of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import numpy as np
import tritonclient.grpc.aio as triton

TIMEOUT_S = 10.0


class Refused(Exception):
    """The answer was no answer."""


class Http:
    """Questions over HTTP to `url`, under the name `host` if given."""

    def __init__(self, url: str, model: str, host: str = "", output: str = "EMBEDDING") -> None:
        self._url = f"{url.rstrip('/')}/v2/models/{model}/infer"
        self._headers = {"Host": host} if host else {}
        self._output = output
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Http:
        limits = aiohttp.ClientTimeout(total=TIMEOUT_S)
        self._session = aiohttp.ClientSession(timeout=limits, trust_env=False, headers=self._headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session
        await self._session.close()

    async def ask(self, text: str) -> list[float]:
        """The model's answer to one text. Raises `Refused`, `aiohttp.ClientError`, `TimeoutError`."""
        return [float(x) for x in (await self.outputs(text))[self._output]]

    async def outputs(self, text: str) -> dict[str, list[Any]]:
        """All output tensors of the answer to one text, flat. Raises as `ask` does."""
        assert self._session
        question = {"name": "TEXT", "datatype": "BYTES", "shape": [1, 1], "data": [text]}
        async with self._session.post(self._url, json={"inputs": [question]}) as answer:
            if answer.status != 200:
                raise Refused(f"status {answer.status}: {(await answer.text())[:200]}")
            return {o["name"]: o["data"] for o in (await answer.json(content_type=None))["outputs"]}


class Grpc:
    """The same over gRPC; `host` is the name by which the gateway routes."""

    def __init__(self, url: str, model: str, host: str = "", output: str = "EMBEDDING") -> None:
        self._address = urlsplit(url).netloc
        self._options = [("grpc.default_authority", host)] if host else []
        self._model, self._output = model, output

    async def __aenter__(self) -> Grpc:
        options = [*self._options, ("grpc.enable_http_proxy", 0)]
        self._client = triton.InferenceServerClient(self._address, channel_args=options)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def ask(self, text: str) -> list[float]:
        """The model's answer to one text. Raises tritonclient's `InferenceServerException`."""
        tensor = triton.InferInput("TEXT", [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[text.encode()]], dtype=object))
        answer = await self._client.infer(self._model, [tensor], client_timeout=TIMEOUT_S)
        return [float(x) for x in answer.as_numpy(self._output).reshape(-1)]


@dataclass
class Shot:
    """One request of a load: when it was sent and had ended (monotonic seconds), and its answer or its error."""

    sent: float
    ended: float = 0.0
    answer: list[float] = field(default_factory=list)
    error: str = ""


class Load:
    """An open loop: `rate` requests a second, however long the answers take; every one is remembered in `shots`."""

    def __init__(self, ask: Callable[[str], Awaitable[list[float]]], text: str, rate: float) -> None:
        self._ask, self._text, self._rate = ask, text, rate
        self.shots: list[Shot] = []
        self._stopping = asyncio.Event()

    @property
    def failed(self) -> list[Shot]:
        """Those without an answer."""
        return [s for s in self.shots if s.error]

    async def run(self, most: int = 100_000) -> None:
        """Send until `stop`, at most `most` requests; returns when the last has ended."""
        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(most):
                due = begun + number / self._rate - time.monotonic()
                try:
                    await asyncio.wait_for(self._stopping.wait(), max(due, 0.0001))
                    return
                except TimeoutError:
                    group.create_task(self._shoot())

    def stop(self) -> None:
        """Send no more."""
        self._stopping.set()

    async def _shoot(self) -> None:
        shot = Shot(time.monotonic())
        self.shots.append(shot)
        try:
            shot.answer = await self._ask(self._text)
        except Exception as error:
            shot.error = f"{type(error).__name__}: {error}"
        shot.ended = time.monotonic()


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Largest difference between two answers; infinite when they differ in length."""
    if len(one) != len(other):
        return float("inf")
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


async def ask_all(client: Any, texts: Sequence[str]) -> list[list[float]]:
    """Answers to several texts, one request each, in turn."""
    return [await client.ask(text) for text in texts]
