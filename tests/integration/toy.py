"""The operator's process with a toy in the place of its plan: CHILDREN Services an object, then STAGES status patches."""

import asyncio
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any

from optimodel.api import names
from optimodel.app import App
from optimodel.machinery.store import Store
from optimodel.plan.types import Plan, Platform
from optimodel.settings import Settings
from optimodel.snapshot import MODEL
from optimodel.writer import Writer

CHILDREN = int(os.environ.get("TOY_CHILDREN", "1"))
PHASES = ("Pending", "Optimizing", "Deploying", "Ready")


def service(obj: dict[str, Any], number: int) -> dict[str, Any]:
    meta = obj["metadata"]
    owner = {
        "apiVersion": obj["apiVersion"],
        "kind": MODEL,
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": f"{meta['name']}-{number}",
            "namespace": meta["namespace"],
            "labels": names.labels(meta["name"], "serve"),
            "ownerReferences": [owner],
        },
        "spec": {
            "clusterIP": "None",
            "selector": {"app": meta["name"], "generation": str(meta["generation"])},
            "ports": [{"name": "http", "port": 80, "targetPort": 8000}],
        },
    }


class Toy:
    def __init__(self, store: Store, writer: Writer, polls: object, platform: Platform) -> None:
        self._store, self._writer = store, writer

    async def reconcile(self, key: tuple[str, str]) -> float | None:
        obj = self._store.get(MODEL, *key)
        if obj is None or self._writer.behind(key) or obj["metadata"].get("deletionTimestamp"):
            return None
        status = obj.get("status") or {}
        if status.get("observedGeneration") == obj["metadata"]["generation"]:
            stage = min(PHASES.index(status["phase"]) + 1, 3)
        else:
            stage = 0
        wanted = {"observedGeneration": obj["metadata"]["generation"], "phase": PHASES[stage], "replicas": stage}
        if stage == 3:
            since = (status.get("conditions") or [{}])[0].get(
                "lastTransitionTime"
            ) or f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
            ready = {"type": "Ready", "status": "True", "reason": "Toy", "message": "", "lastTransitionTime": since}
            wanted["conditions"] = [ready]
        await self._writer.write(key, Plan(apply=tuple(service(obj, n) for n in range(CHILDREN)), status=wanted))
        return None


if __name__ == "__main__":
    logging.basicConfig(
        level=os.environ.get("TOY_LOG", "INFO"), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )

    async def main() -> int:
        return await App(Settings.read(), Toy).run()

    sys.exit(asyncio.run(main()))
