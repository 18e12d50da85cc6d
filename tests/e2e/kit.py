"""What the end-to-end tests share: models in the store, specs, and questions about the cluster that users ask."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from demo import artifact, clients, stage

from optimodel.cli import view

Obj = dict[str, Any]
ROOT = f"e2e-{uuid.uuid4().hex[:8]}"
"""Prefix of everything this run stores: on a cluster that was up before, nothing of an earlier run is found."""
TEXT = "What is the capital of France?"
PODS = {"requests": {"cpu": "50m", "memory": "192Mi"}, "limits": {"memory": "1Gi"}}
JOBS = {"resources": {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "3Gi"}}}
OPTIMIZED_S = 240
SERVED_S = 180


def hosts(namespace: str, name: str) -> dict[str, str]:
    """Hostnames of a model, one for each protocol."""
    return {"http": f"{name}.{namespace}.example.com", "grpc": f"grpc.{name}.{namespace}.example.com"}


def model(namespace: str, name: str, source: str, *, routed: bool = False, **spec: Any) -> Obj:
    """A small valid OptimizedModel on `source` of the store; keywords replace members of the spec."""
    rollout: Obj = {"drain": "2s"}
    if routed:
        names = hosts(namespace, name)
        rollout["router"] = {"parentRefs": [stage.GATEWAY], "hostnames": {k: [v] for k, v in names.items()}}
    steps = [{"name": "export", "type": "Export"}]
    target = {"shapes": [{"batchSize": 1, "sequenceLength": 16}]}
    found: Obj = {
        "task": "TextEmbedding",
        "source": {"s3": stage.s3(f"{ROOT}/{source}")},
        "artifacts": {"s3": stage.s3(f"{ROOT}/artifacts")},
        "optimization": {"steps": steps, "target": target, "podTemplate": JOBS},
        "serving": {"resources": PODS},
        "rollout": rollout,
    }
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "optimodel.dev/v1alpha1", "kind": "OptimizedModel", "metadata": meta, "spec": found | spec}


class House:
    """The cluster, seen from one namespace."""

    def __init__(self, kubectl: stage.Kubectl, namespace: str) -> None:
        self.kubectl, self.namespace = kubectl, namespace

    def model(self, name: str, source: str, **spec: Any) -> Obj:
        """A spec for this namespace; see `model`."""
        return model(self.namespace, name, source, **spec)

    def apply(self, *documents: Obj) -> None:
        self.kubectl.apply(*documents)

    def om(self, name: str) -> Obj:
        """The OptimizedModel, which must exist."""
        found = self.kubectl.get("optimizedmodel", self.namespace, name)
        assert found, f"no OptimizedModel {name}"
        return found

    def names(self, kind: str, selector: str = "") -> list[str]:
        """Names of the objects of a kind."""
        return [o["metadata"]["name"] for o in self.kubectl.list(kind, self.namespace, selector)]

    def wait_ready(self, name: str, seconds: float = OPTIMIZED_S) -> Obj:
        """`kubectl wait --for=condition=Ready`, as a pipeline calls it; the object afterwards."""
        flags = ("-n", self.namespace, "--for=condition=Ready", f"--timeout={seconds:.0f}s")
        try:
            self.kubectl("wait", f"optimizedmodel/{name}", *flags, seconds=seconds + 30)
        except RuntimeError as error:
            raise AssertionError(f"{error}\n" + "\n".join(view.summary(self.om(name)))) from None
        return self.om(name)

    def until(self, done: Callable[[], Any], seconds: float, name: str, every: float = 0.5) -> Any:
        """Poll; the model's state is in the message when it is too late."""

        def state() -> str:
            found = self.kubectl.get("optimizedmodel", self.namespace, name)
            return "\n".join(view.summary(found)) if found else name

        return stage.until(done, seconds, state, every)

    def until_om(self, name: str, done: Callable[[Obj], Any], seconds: float, every: float = 0.3) -> Obj:
        """Poll the object until `done`; the object then."""

        def look() -> Obj | None:
            found = self.om(name)
            return found if done(found) else None

        return self.until(look, seconds, name, every)  # type: ignore[no-any-return]

    def until_condition(self, name: str, type: str, reason: str, seconds: float = SERVED_S) -> Obj:
        """Poll until a condition has a reason; the condition then."""
        found = self.until_om(name, lambda om: view.condition(om, type).get("reason") == reason, seconds)
        return view.condition(found, type)

    def pods(self, name: str, component: str = "serve", revision: str = "") -> list[Obj]:
        """Pods of a model, without those that are going."""
        selector = f"optimodel.dev/model={name},optimodel.dev/component={component}"
        selector += f",optimodel.dev/revision={revision}" if revision else ""
        found = self.kubectl.list("pods", self.namespace, selector)
        return [p for p in found if "deletionTimestamp" not in p["metadata"]]

    def http(self, name: str) -> clients.Http:
        """Questions over HTTP through the gateway."""
        return clients.Http(stage.gateway(), name, hosts(self.namespace, name)["http"])

    def grpc(self, name: str) -> clients.Grpc:
        """Questions over gRPC through the gateway."""
        return clients.Grpc(stage.gateway(), name, hosts(self.namespace, name)["grpc"])

    def address(self, name: str) -> str:
        """URL of the model's stable Service, as seen from this machine."""
        found = self.kubectl.get("service", self.namespace, name)
        assert found, f"no Service {name}"
        return f"http://{found['spec']['clusterIP']}:8000"

    async def answer(self, name: str, text: str = TEXT) -> list[float]:
        """One answer of the stable Service."""
        async with clients.Http(self.address(name), name) as client:
            return await client.ask(text)

    def own_answers(self, name: str, texts: list[str], revision: str = "") -> list[list[float]]:
        """Answers of the artifact that the model's stable (or another) revision names, computed here."""
        om = self.om(name)
        hash = revision or om["status"]["stableRevision"]
        found = artifact.of(self.kubectl, self.namespace, f"{name}-{hash}")
        return artifact.answers(self.namespace, om["spec"]["artifacts"]["s3"], found["digest"], texts)

    def writes(self, since: int, user: str = "system:serviceaccount:optimodel-system:") -> list[Obj]:
        """The operator's successful writes in this namespace, Events left out, from byte `since` of the audit log."""
        found = []
        for line in audit_lines(since):
            event = json.loads(line)
            ref = event.get("objectRef", {})
            ours = event["user"]["username"].startswith(user) and ref.get("namespace") == self.namespace
            if ours and ref.get("resource") != "events" and event["responseStatus"]["code"] < 300:
                found.append(event)
        return found


def audit_log() -> Path:
    """The API server's audit log."""
    from devcluster import node

    return Path(os.environ.get("OPTIMODEL_AUDIT_LOG", node.CONTROL.audit_log))


def audit_position() -> int:
    """Where the audit log ends now."""
    return audit_log().stat().st_size


def audit_lines(since: int) -> Iterator[str]:
    """Whole lines of the audit log after a position."""
    with audit_log().open("rb") as log:
        log.seek(since)
        for line in log:
            if line.endswith(b"\n"):
                yield line.decode()


def near(answer: list[float], expected: list[float]) -> bool:
    """Whether an answer is the expected one."""
    return clients.distance(answer, expected) <= 1e-3


async def off_loop(call: Callable[..., Any], *arguments: Any) -> Any:
    """Run something that blocks beside a load that must keep its pace."""
    return await asyncio.to_thread(call, *arguments)
