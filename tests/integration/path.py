"""The whole path from creation to a promoted canary without a node: kwok plays Jobs and pods, a stand-in server answers for
them, and this process plays the gateway. What a user sees of an object at its end, to compare one with another."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from devcluster.addons import apply, define
from devcluster.apiserver import ApiServer
from devcluster.binaries import gateway_api, kwok_stages
from devcluster.control import free_port
from tests.integration.process import Cluster, eventually
from tests.perf import models, stages, standin
from tests.perf.cluster import MERGE, Client

NAMESPACE = "default"
MODELS = f"/apis/optimodel.dev/v1alpha1/namespaces/{NAMESPACE}/optimizedmodels"
ROUTES = "/apis/gateway.networking.k8s.io/v1/httproutes"
JOBS = "/apis/batch/v1/namespaces/default/jobs"
END_S = 30.0
OWNED = (
    JOBS,
    "/apis/apps/v1/namespaces/default/deployments",
    "/api/v1/namespaces/default/services",
    "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies",
    "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes",
    "/apis/optimodel.dev/v1alpha1/namespaces/default/modelrevisions",
)
PODS = "/api/v1/namespaces/default/pods"
OPERATOR = "operator"
"""User of the operator, by which the audit log tells its writes."""


def model(name: str) -> dict[str, Any]:
    """An object of two pods behind a gateway, whose canary takes seconds."""
    found = models.model(name)
    found["metadata"]["namespace"] = NAMESPACE
    found["spec"]["serving"] = {"replicas": 2}
    found["spec"]["rollout"] = {
        "router": {"parentRefs": [{"name": "inference"}], "hostnames": {"http": [f"{name}.example.com"]}},
        "steps": [
            {"name": "first", "weight": 10, "minDuration": "1s"},
            {"name": "half", "weight": 50, "minDuration": "1s"},
        ],
        "drain": "1s",
    }
    return found


NEXT = {"spec": {"serving": {"batching": {"maxBatchSize": 16}}}}
"""The change that makes the next revision."""


class World:
    """The cluster with its players; close it at the end."""

    def __init__(self, folder: Path) -> None:
        port, config = free_port(), folder / "kwok.yaml"
        self._address = f"127.78.{port // 256}.{port % 256}"
        deletes = (kwok_stages() / "pod/fast/pod-delete.yaml").read_text()
        config.write_text(stages.write(config, self._address).read_text() + "\n---\n" + deletes)
        nodes = ("node/fast", "node/heartbeat-with-lease")
        self.api = ApiServer(controllers=True, scheduler=True, kwok=True, stages=nodes, kwok_config=config)
        self.weights: dict[str, list[dict[str, int]]] = {}
        """By route: the weights that it had, one after the other."""
        self._jobs: set[tuple[str, str]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="players", daemon=True)

    def __enter__(self) -> "World":
        self.api.__enter__()
        try:
            self._thread.start()
            self._install()
        except BaseException:
            self.api.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self.api.close()

    async def _end(self) -> None:
        """Leave no task behind: a loop that stops under one complains at the end of the process."""
        self._server.close()
        playing = asyncio.all_tasks() - {asyncio.current_task()}
        for task in playing:
            task.cancel()
        await asyncio.gather(*playing, return_exceptions=True)
        await self._client.close()

    def _do(self, work: Coroutine[Any, Any, Any], seconds: float = 60) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def _install(self) -> None:
        self.cluster = Cluster(self.api)
        crds = [path.read_text() for path in sorted(gateway_api().glob("*.yaml")) if "_vap_" not in path.name]
        define(self.api.kubeconfig, "\n---\n".join(crds))
        runtime = {"apiVersion": "optimodel.dev/v1alpha1", "kind": "ClusterTritonRuntime"}
        objects = [
            {**runtime, "metadata": {"name": "default"}, "spec": {"image": "triton:1"}},
            *({"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{n}"}} for n in range(3)),
        ]
        apply(self.api.kubeconfig, "\n---\n".join(json.dumps(each) for each in objects))
        self.cluster.kubectl("wait", "--for=create", "--timeout=30s", "serviceaccount/default")
        self._do(self._play())

    async def _play(self) -> None:
        self._client = Client(self.api.control, "admin")
        self._server = await asyncio.start_server(standin.serve, self._address, standin.PORT, backlog=1024)
        self._players = [asyncio.create_task(self._accept()), asyncio.create_task(self._count())]

    async def _count(self) -> None:
        """Keep uid and name of every Job that there ever was."""
        async for line in self._client.watch(JOBS):
            meta = json.loads(line)["object"]["metadata"]
            self._jobs.add((meta["uid"], meta["name"]))

    async def _accept(self) -> None:
        """The gateway: accept every generation of every route."""
        async for line in self._client.watch(ROUTES):
            event = json.loads(line)
            route, meta = event["object"], event["object"]["metadata"]
            if event["type"] not in ("ADDED", "MODIFIED") or meta.get("deletionTimestamp"):
                continue
            self._note(route)
            status = accepted(route)
            if status["parents"] != route.get("status", {}).get("parents"):
                path = f"{ROUTES.replace('httproutes', '')}namespaces/{NAMESPACE}/httproutes/{meta['name']}/status"
                await self._client.call("PATCH", path, json.dumps({"status": status}).encode(), MERGE)

    def _note(self, route: dict[str, Any]) -> None:
        """The last rule is the one that splits."""
        name = route["metadata"]["name"]
        split = {b["name"].removeprefix(f"{name}-"): b["weight"] for b in route["spec"]["rules"][-1]["backendRefs"]}
        seen = self.weights.setdefault(name, [])
        if not seen or seen[-1] != split:
            seen.append(split)

    def get(self, path: str) -> dict[str, Any]:
        """GET as administrator."""
        found: dict[str, Any] = json.loads(self._do(self._client.call("GET", path)))
        return found

    def create(self, name: str) -> None:
        """Create an object."""
        self._do(self._client.create(MODELS, model(name)))

    def models(self) -> dict[str, dict[str, Any]]:
        """Every object by name."""
        return {each["metadata"]["name"]: each for each in self.get(MODELS)["items"]}

    def change(self, name: str) -> None:
        """Ask for the next revision."""
        self._do(self._client.call("PATCH", f"{MODELS}/{name}", json.dumps(NEXT).encode(), MERGE))

    def jobs_made(self, name: str) -> Counter[str]:
        """How often each Job of an object was created. (The audit log tells a write whose client died as a time-out.)"""
        return Counter(job.replace(name, "NAME") for _, job in self._jobs if job.startswith(f"{name}-"))

    def writes(self, name: str) -> int:
        """Writes of the operator that concern an object."""
        at = [e["objectRef"] for e in self._audit() if e["user"]["username"] == OPERATOR]
        at = [each for each in at if each["resource"] not in ("leases", "events")]
        return sum(each.get("name", "") == name or each.get("name", "").startswith(f"{name}-") for each in at)

    def _audit(self) -> list[dict[str, Any]]:
        lines = self.api.audit_log.read_text().splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [e for e in found if e["stage"] == "ResponseComplete" and "objectRef" in e]

    def end(self, name: str) -> dict[str, Any]:
        """All that a user sees of an object at its end, but for times, versions, its name and Jobs that have ended: their time
        to live removes them, or before that the operator while it optimizes another revision."""
        status = dict(self.models()[name]["status"])
        conditions = sorted((c["type"], c["status"], c["reason"]) for c in status.pop("conditions"))
        mine = f"?labelSelector=optimodel.dev/model={name}"
        objects = [(path.rsplit("/", 1)[1], each) for path in OWNED for each in self.get(path + mine)["items"]]
        revisions = {e["metadata"]["name"]: e["status"] for kind, e in objects if kind == "modelrevisions"}
        pods = [p["metadata"] for p in self.get(PODS + mine)["items"] if "job-name" not in p["metadata"]["labels"]]
        found = {
            "status": status,
            "conditions": conditions,
            "objects": sorted(f"{kind}/{e['metadata']['name']}" for kind, e in objects if not ended(kind, e)),
            "routes": [each["spec"] for kind, each in objects if kind == "httproutes"],
            "artifacts": {each: revisions[each].get("artifact", {}).get("digest") for each in sorted(revisions)},
            "pods": sorted(p["labels"]["optimodel.dev/revision"] for p in pods),
            "weights": self.weights.get(name, []),
            "jobs": sorted(self.jobs_made(name).items()),
        }
        plain: dict[str, Any] = json.loads(json.dumps(found).replace(name, "NAME"))
        return plain

    def ends_as(self, name: str, wanted: dict[str, Any], meanwhile: Callable[[], object] = lambda: None) -> None:
        """Fail with the difference unless an object ends as wanted; what was deleted may take a moment to go."""
        until = time.monotonic() + END_S

        def ended_so() -> bool:
            meanwhile()
            return self.end(name) == wanted or time.monotonic() > until

        eventually(ended_so, END_S + 5)
        found = self.end(name)
        different = {key: {"found": found[key], "wanted": wanted[key]} for key in found if found[key] != wanted[key]}
        assert not different, f"{name}: {json.dumps(different)}"


def ended(kind: str, obj: dict[str, Any]) -> bool:
    """Whether it is a Job that has ended."""
    return kind == "jobs" and any(c["type"] == "Complete" for c in obj["status"].get("conditions", ()))


def accepted(route: dict[str, Any]) -> dict[str, Any]:
    """Status of a route that its gateway accepted."""
    known = {"status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z", "message": ""}
    conditions = [
        {**known, "type": type, "reason": type, "observedGeneration": route["metadata"]["generation"]}
        for type in ("Accepted", "ResolvedRefs")
    ]
    at = {"controllerName": "example.com/gateway", "conditions": conditions}
    return {"parents": [{"parentRef": parent, **at} for parent in route["spec"]["parentRefs"]]}


def settled(obj: dict[str, Any], generation: int) -> bool:
    """Ready at this generation, and no rollout in flight."""
    status = obj.get("status", {})
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))
    return bool(
        ready
        and status["observedGeneration"] == generation == obj["metadata"]["generation"]
        and not status.get("rollout")
    )


def at(obj: dict[str, Any]) -> str:
    """Where on the path an object is, in a word or two."""
    status = obj.get("status", {})
    rollout = status.get("rollout") or {}
    return "/".join(filter(None, [status.get("phase", "New"), rollout.get("phase", ""), status.get("canary", "")]))
