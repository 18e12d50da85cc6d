"""A client with no logic that writes what the operator writes: the recording of one object, replayed for each.

The one order that it keeps is the world's: what follows from the Job's result is written once the Job is complete.
"""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import msgspec
from tests.perf.cluster import NAMESPACE, Client
from tests.perf.models import MODELS, WARM, Seen, create, until
from tests.perf.recording import Recorded

WORKERS = 8
"""As many as the operator has."""
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"


class Script:
    """The writes of one object in two parts: before the Job's result, and after."""

    def __init__(self, recording: Path, status_patches: int) -> None:
        lines = recording.read_bytes().splitlines()
        writes = [
            each
            for each in (msgspec.json.decode(line, type=Recorded) for line in lines)
            if each.verb in ("apply", "status")
        ]
        writes = _thin(writes, status_patches)
        at = next(n for n, each in enumerate(writes) if each.verb == "status" and each.kind == "ModelRevision")
        self.uid = next(each.body["metadata"]["ownerReferences"][0]["uid"] for each in writes if each.verb == "apply")
        self.parts = [[_packed(each) for each in part] for part in (writes[:at], writes[at:])]
        self.length = len(writes)


def _thin(writes: list[Recorded], status_patches: int) -> list[Recorded]:
    """Drop status patches of the middle until no more are left than a burst saw of each object."""
    mine = [n for n, each in enumerate(writes) if each.verb == "status" and each.kind == "OptimizedModel"]
    surplus = mine[1:-1][: max(0, len(mine) - status_patches)]
    return [each for n, each in enumerate(writes) if n not in surplus]


def _packed(write: Recorded) -> tuple[str, str, bytes, str]:
    meta: dict[str, Any] = write.body.get("metadata") or {}
    if write.verb == "status":
        meta["resourceVersion"] = "VERSION"
    return write.method, write.path, msgspec.json.encode(write.body), write.content


_VERSION = re.compile(rb'"resourceVersion":\s?"(\d+)"')


class Floor:
    """Replays a script for many objects."""

    def __init__(self, client: Client, script: Script) -> None:
        self._client, self._script = client, script
        self._due: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        self._uids: dict[str, bytes] = {}
        self._versions: dict[str, bytes] = {}
        self._left = 0

    async def run(self, people: Client, names: list[str], seconds: float) -> float:
        """Create `names` as people do and write all that belongs to them; seconds until every pod of a Deployment is ready."""
        began, wanted = time.monotonic(), set(names)
        self._left = len(names) * 2
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())
            group.create_task(create(people, names, self._created))
            group.create_task(until(self._client, JOBS, wanted, lambda job: job.true("Complete"), self._ended, _model))
            group.create_task(until(people, DEPLOYMENTS, wanted, _is_up, key=_model))
        return time.monotonic() - began

    def _created(self, metadata: dict[str, Any]) -> None:
        name = metadata["name"]
        self._uids[name] = metadata["uid"].encode()
        self._versions[f"{MODELS}/{name}"] = metadata["resourceVersion"].encode()
        self._due.put_nowait((name, 0))

    def _ended(self, name: str) -> None:
        self._due.put_nowait((name, 1))

    async def _work(self) -> None:
        while self._left:
            name, part = await self._due.get()
            if name:
                await self._play(name, part)
                self._left -= 1
            if not self._left:
                self._due.put_nowait(("", 0))

    async def _play(self, name: str, part: int) -> None:
        old, new, uid = WARM.encode(), name.encode(), self._uids[name]
        for method, path, body, content in self._script.parts[part]:
            at = path.replace(WARM, name)
            text = body.replace(old, new).replace(self._script.uid.encode(), uid)
            key = at.partition("?")[0].removesuffix("/status")
            if b'"VERSION"' in text:
                text = text.replace(b'"resourceVersion":"VERSION"', b'"resourceVersion":"%s"' % self._versions[key])
            found = _VERSION.search(await self._client.call(method, at, text, content))
            if found:
                self._versions[key] = found[1]


def _model(name: str) -> str:
    return name[: len(WARM)]


def _is_up(seen: Seen) -> bool:
    return seen.status.ready_replicas >= 1
