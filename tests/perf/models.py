"""The objects that are created, and when they are Ready."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import aiohttp
import msgspec
from tests.perf.cluster import NAMESPACE, Client, Refused

MODELS = f"/apis/optimodel.dev/v1alpha1/namespaces/{NAMESPACE}/optimizedmodels"
WARM = "warm-0000"
"""The object that goes before the others, so that no path is walked for the first time under measurement."""
CREATORS = 8


def name(number: int) -> str:
    """Name of a measured object: as long as `WARM`."""
    return f"fast-{number:04d}"


def model(name: str) -> dict[str, Any]:
    """An object with two steps, an autoscaler and one pod, without a router."""
    s3 = {"secretRef": {"name": "store"}}
    return {
        "apiVersion": "optimodel.dev/v1alpha1",
        "kind": "OptimizedModel",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "task": "TextEmbedding",
            "source": {"s3": {"url": "s3://models/minilm", **s3}},
            "artifacts": {"s3": {"url": "s3://models/artifacts", **s3}},
            "optimization": {"steps": [{"name": "graph", "type": "Export"}, {"name": "int8", "type": "Quantize"}]},
            "serving": {"autoscaling": {"minReplicas": 1, "maxReplicas": 4, "targetCpuUtilization": 70}},
        },
    }


async def create(
    client: Client, names: list[str], created: Callable[[dict[str, Any]], None] = lambda metadata: None
) -> None:
    """Create all, eight at a time; `created` is told the metadata of each."""
    left = iter(names)

    async def some() -> None:
        for each in left:
            found = await client.create(MODELS, model(each))
            created(found["metadata"])

    await asyncio.gather(*(some() for _ in range(CREATORS)))


class _Meta(msgspec.Struct):
    name: str
    generation: int = 0


class _Condition(msgspec.Struct, rename="camel"):
    type: str
    status: str
    observed_generation: int = 0


class _Status(msgspec.Struct, rename="camel"):
    conditions: list[_Condition] = []
    observed_generation: int = 0
    ready_replicas: int = 0


class Seen(msgspec.Struct):
    """What is read of an object."""

    metadata: _Meta
    status: _Status = msgspec.field(default_factory=_Status)

    def true(self, type: str) -> bool:
        """Whether a condition is True."""
        return any(each.type == type and each.status == "True" for each in self.status.conditions)


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


_event = msgspec.json.Decoder(_Event).decode
_seen = msgspec.json.Decoder(Seen).decode


async def until(
    client: Client,
    path: str,
    names: set[str],
    good: Callable[[Seen], bool],
    told: Callable[[str], None] = lambda name: None,
    key: Callable[[str], str] = lambda name: name,
) -> None:
    """Watch a collection until for every name an object is good; `key` is the name that an object's name stands for, `told` is
    called once for each."""  # fmt: skip
    left = set(names)

    async def follow() -> None:
        async with aclosing(client.watch(path)) as events:  # type: ignore[type-var]
            async for line in events:
                event = _event(line)
                if event.type == "ERROR":
                    return
                found = _seen(event.object)
                of = key(found.metadata.name)
                if of in left and good(found):
                    left.discard(of)
                    told(of)
                if not left:
                    return

    while left:
        try:
            await follow()
        except (Refused, aiohttp.ClientError):
            await asyncio.sleep(0.5)


def is_ready(seen: Seen) -> bool:
    """Ready, said of this generation."""
    return seen.true("Ready") and seen.status.observed_generation == seen.metadata.generation


async def ready(client: Client, names: list[str], seconds: float, began: Awaitable[object]) -> None:
    """Return once all are Ready; `began` creates them. TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
        group.create_task(until(client, MODELS, set(names), is_ready))
        group.create_task(_do(began))


async def _do(work: Awaitable[object]) -> None:
    await work
