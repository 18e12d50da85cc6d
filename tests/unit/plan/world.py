"""A small world for plans: it keeps what a plan writes, and lets a test play Job controller, kubelet and gateway."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from optimodel.api import names
from optimodel.api.contract import Artifact, Figures, Golden, Result, StepProgress
from optimodel.machinery.store import Store
from optimodel.plan.decide import decide
from optimodel.plan.types import Manifest, Plan, Platform, ProbeResult, Refused
from optimodel.snapshot import MODEL, PROBE, REFUSED, by_digest, by_hostname, take

PLATFORM = Platform("worker:1", "operator:1")
RUNTIME = {"image": "triton:1"}
SPEC: dict[str, Any] = {
    "task": "TextEmbedding",
    "source": {"s3": {"url": "s3://models/minilm", "secretRef": {"name": "store"}}},
    "artifacts": {"s3": {"url": "s3://models/team-a", "secretRef": {"name": "store"}}},
    "optimization": {"steps": [{"name": "graph", "type": "Export"}, {"name": "int8", "type": "Quantize"}]},
}
ROUTER = {
    "type": "GatewayAPI",
    "parentRefs": [{"name": "inference", "namespace": "gateway"}],
    "hostnames": {"http": ["m.example"]},
}


def result(digest: str = "sha256:aa", **changes: Any) -> Result:
    """What a worker that succeeded leaves behind."""
    artifact = Artifact(
        digest=digest,
        bytes=24_000_000,
        weights_bytes=23_000_000,
        source_digest="sha256:src",
        source_weights_bytes=90_000_000,
        golden=Golden("hello", "EMBEDDING", ("0.1", "0.2")),
    )
    steps = tuple(StepProgress(n, "Done", 100, "1.0") for n in ("Fetch", "graph", "int8", "Evaluate", "Publish"))
    found = Result("Succeeded", "Optimized", artifact=artifact, steps=steps, figures=Figures(cosine_mean="0.992"))
    return msgspec.structs.replace(found, **changes)


class World:
    """One object `m` in namespace `a`, and everything that belongs to it."""

    def __init__(self, spec: dict[str, Any] | None = None, *, runtime: dict[str, Any] | None = RUNTIME) -> None:
        def owner(kind: str, obj: dict[str, Any]) -> list[Any]:
            model = obj["metadata"].get("labels", {}).get(names.MODEL)
            return [(kind, obj["metadata"].get("namespace", ""), model)] if model else []

        self.store = Store({"owner": owner, "hostname": by_hostname, "digest": by_digest})
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.version = 0
        self.written: list[dict[str, Any]] = []
        self.events: list[str] = []
        self.platform = PLATFORM
        self.refuses: Callable[[Manifest], tuple[str, bool] | None] = lambda manifest: None
        """What the API server says to an apply, if it refuses, and whether that is about the content."""
        self.refused = 0
        if runtime is not None:
            self.set_runtime(runtime)
        self.put(
            {
                "apiVersion": names.API_VERSION,
                "kind": MODEL,
                "metadata": {
                    "name": "m",
                    "namespace": "a",
                    "generation": 1,
                    "creationTimestamp": "2026-01-01T00:00:00Z",
                },
                "spec": spec or copy.deepcopy(SPEC),
            }
        )

    def set_runtime(self, spec: dict[str, Any]) -> None:
        self.put({"kind": "ClusterTritonRuntime", "metadata": {"name": "default", "namespace": ""}, "spec": spec})

    def set_recipe(self, spec: dict[str, Any], name: str = "small") -> None:
        self.put({"kind": "ClusterOptimizationRecipe", "metadata": {"name": name, "namespace": ""}, "spec": spec})

    def drop_recipe(self, name: str = "small") -> None:
        found = self.store.get("ClusterOptimizationRecipe", "", name)
        assert found is not None
        self.store.remove("ClusterOptimizationRecipe", found)

    def put(self, obj: dict[str, Any]) -> None:
        """Write an object as the API server would."""
        self.version += 1
        old = self.store.get(obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        meta = {**obj["metadata"], "resourceVersion": str(self.version)}
        meta["uid"] = old["metadata"]["uid"] if old else f"{obj['metadata']['name']}-{self.version}"
        self.store.put(obj["kind"], {**(old or {}), **obj, "metadata": meta})

    def get(self, kind: str, name: str = "m") -> dict[str, Any]:
        found = self.store.get(kind, "a", name)
        assert found is not None, f"no {kind} {name}; have {[n[1] for n in self.store.names(kind)]}"
        return copy.deepcopy(found)

    def names(self, kind: str) -> list[str]:
        return sorted(n[1] for n in self.store.names(kind))

    def edit(self, **changes: Any) -> None:
        """Change members of the spec, as a person would."""
        model = self.get(MODEL)
        model["spec"].update(copy.deepcopy(changes))
        model["metadata"]["generation"] += 1
        self.put(model)

    def act(self, action: str) -> None:
        model = self.get(MODEL)
        model["metadata"]["annotations"] = {names.ACTION: action}
        self.put(model)

    def step(self, dies: bool = False, noted: bool = False) -> Plan:
        """One reconcile: decide and carry out. One that `dies` does so before it writes a status, or with `noted` between that of
        the revision and its own."""
        seen = take(self.store, "a", "m", self.platform, self.now)
        assert seen is not None
        plan = decide(seen)
        refused = [told for manifest in plan.apply if (told := self._try_apply(manifest))]
        self.store.set_fact(REFUSED, seen.meta.uid, tuple(refused) or None)
        self.refused += len(refused)
        if dies and not noted:
            return plan
        for name, status in plan.revision_status.items():
            self.put({**self.get("ModelRevision", name), "status": status})
        if dies:
            return plan
        model = self.get(MODEL)
        if plan.status is not None and plan.status != model.get("status"):
            self.written.append(plan.status)
            self.put({**model, "status": plan.status})
        for manifest in plan.routes:
            self._apply(manifest)
        for gone in plan.delete:
            found = self.store.get(gone.kind, gone.namespace, gone.name)
            if found:
                self.store.remove(gone.kind, found)
                self._forget_pods(gone.kind, found)
        if plan.finalizer is not None:
            model = self.get(MODEL)
            others = [f for f in model["metadata"].get("finalizers", []) if f != names.FINALIZER]
            model["metadata"]["finalizers"] = others + [names.FINALIZER] * plan.finalizer
            self.put(model)
        self.events += [e.reason for e in plan.events]
        return plan

    def _forget_pods(self, kind: str, owner: dict[str, Any]) -> None:
        """What the garbage collector does for a Deployment."""
        labels = owner["metadata"]["labels"]
        for name in self.names("Pod") if kind == "Deployment" else ():
            pod = self.get("Pod", name)
            if labels.items() <= pod["metadata"]["labels"].items():
                self.store.remove("Pod", pod)

    def _try_apply(self, manifest: dict[str, Any]) -> Refused | None:
        said = self.refuses(manifest)
        if said is None:
            self._apply(manifest)
            return None
        generation = self.get(MODEL)["metadata"]["generation"]
        return Refused(manifest["kind"], manifest["metadata"]["name"], *said, generation)

    def _apply(self, manifest: dict[str, Any]) -> None:
        meta = manifest["metadata"]
        old = self.store.get(manifest["kind"], meta.get("namespace", ""), meta["name"])
        if old is None or any(old.get(k) != v for k, v in manifest.items() if k != "metadata"):
            generation = (old["metadata"].get("generation", 0) if old else 0) + 1
            self.put({**manifest, "metadata": {**meta, "generation": generation}})

    def settle(self, limit: int = 20) -> None:
        """Reconcile until nothing changes any more."""
        for _ in range(limit):
            before = self.version
            self.step()
            if self.version == before:
                return
        raise AssertionError("it does not come to rest")

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.settle()

    def end_job(self, outcome: Result | None, *, code: int = 0, reason: str = "", kind: str = "Failed") -> None:
        """Let the optimization Job that is under way, or else the newest, end with `outcome` as its termination message."""
        jobs = [self.get("Job", j) for j in self.names("Job") if "-a" in j]
        job = next(j for j in jobs if "status" not in j or j is jobs[-1])
        name = job["metadata"]["name"]
        ended: dict[str, Any] = {"exitCode": code, "reason": reason}
        if outcome is not None:
            ended["message"] = msgspec.json.encode(outcome).decode()
        self.pod(
            f"{name}-x",
            job["spec"]["template"]["metadata"]["labels"] | {"job-name": name},
            "worker",
            {"terminated": ended},
        )
        condition = {"type": "Complete" if code == 0 else kind, "status": "True", "reason": reason}
        self.put({**job, "status": {"conditions": [condition]}})
        self.settle()

    def pod(self, name: str, labels: dict[str, str], container: str, state: dict[str, Any], **status: Any) -> None:
        """A pod with one container in some state."""
        found = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "a", "labels": labels},
            "spec": {"containers": [{"name": container, "image": "x:1"}]},
            "status": {"podIP": "10.0.0.1", "containerStatuses": [{"name": container, "state": state}], **status},
        }
        self.put(found)

    def start_pods(self, *, answers: bool | None = True, count: int = 1) -> None:
        """Give every Deployment ready pods whose golden answer comes back (or not)."""
        every = [(name, i) for name in self.names("Deployment") for i in range(count)]
        for name, i in every:
            labels = self.get("Deployment", name)["spec"]["template"]["metadata"]["labels"]
            ready = [{"type": "Ready", "status": "True"}]
            self.pod(f"{name}-{i}", labels, "triton", {"running": {}}, phase="Running", conditions=ready)
            uid = self.get("Pod", f"{name}-{i}")["metadata"]["uid"]
            self.store.set_fact(
                PROBE, uid, None if answers is None else ProbeResult(answers, "" if answers else "wrong")
            )
        self.settle()
        if "router" not in self.get(MODEL)["spec"].get("rollout", {}):
            self.pass_time(2)

    def stop_pods(self, hash: str) -> None:
        """The pods of a revision stop being ready."""
        for name in self.names("Pod"):
            pod = self.get("Pod", name)
            if pod["metadata"]["labels"].get(names.REVISION) == hash and "Ready" in str(
                pod["status"].get("conditions")
            ):
                pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
                self.put(pod)
        self.settle()

    def accept_routes(self, lag: float = 2) -> None:
        """Let the gateway accept every route as it is now, and its proxies follow `lag` seconds later."""
        for kind in ("HTTPRoute", "GRPCRoute"):
            for name in self.names(kind):
                route = self.get(kind, name)
                good = [
                    {"type": t, "status": "True", "observedGeneration": route["metadata"]["generation"]}
                    for t in ("Accepted", "ResolvedRefs")
                ]
                parents = [{"parentRef": p, "conditions": good} for p in route["spec"]["parentRefs"]]
                if route.get("status") != {"parents": parents}:
                    self.put({**route, "status": {"parents": parents}})
        self.settle()
        self.pass_time(lag)

    def serve(self) -> None:
        """From wherever it is to the end of the path: Job, pods, gateway."""
        self.settle()
        if any("-a" in j for j in self.names("Job")) and not self.condition("Optimized", "True"):
            self.end_job(result())
        self.start_pods()
        self.accept_routes()
        self.settle()

    @property
    def status(self) -> dict[str, Any]:
        return self.get(MODEL).get("status", {})

    def condition(self, type: str, status: str = "True", reason: str = "") -> bool:
        conditions = self.status.get("conditions", [])
        assert all(c["message"] for c in conditions), conditions
        found = next((c for c in conditions if c["type"] == type), None)
        return found is not None and found["status"] == status and reason in ("", found["reason"])

    def message(self, type: str = "Ready") -> str:
        return next(c["message"] for c in self.status["conditions"] if c["type"] == type)

    def weights(self) -> dict[str, int]:
        """Weights of the last rule of the HTTPRoute, by revision hash."""
        rule = self.get("HTTPRoute")["spec"]["rules"][-1]
        return {b["name"].removeprefix("m-"): b["weight"] for b in rule["backendRefs"]}
