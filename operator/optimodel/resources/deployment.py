"""Builder of the Triton Deployment of one revision."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ..api import contract, names
from ..api.contract import PullInput
from ..api.spec import TritonRuntimeSpec
from .pod import CONTAINER_SECURITY, Volumes, customize, metadata, pod_spec, s3_credentials
from .service import GRPC_PORT, HTTP_PORT, METRICS_PORT

TRITON_RESOURCES = {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}}
PULL_RESOURCES = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}

PRESTOP_S = 12
"""Longer than it takes every gateway and kube-proxy to forget an endpoint."""
EXIT_S = 20
"""Triton's own time to finish requests that are under way."""
START_BUDGET_S = 600
QUICK_S, SLOWEST_S = 5, 40
"""What a probe may take: of most models, and at most."""
SLACK = 10
"""How many times the measured latency a probe may take: the pod may have less of a CPU than the worker, and other requests."""
TOKENS = 9
"""Latencies of one answer that is written: as many as a golden one has tokens at most, and its prompt."""

PROBE = ["python3", "-S", "-E", f"{contract.MODELS_MOUNT}/probe.py"]

_TRITON_CPUS = {"containerName": "triton", "resource": "limits.cpu", "divisor": "1"}
"""Threads of the served graph: the CPU limit of the container, else the node's CPUs."""


@dataclass(frozen=True)
class Serve:
    """What the Deployment of a revision is made from. `replicas` None = an autoscaler owns the number."""

    namespace: str
    revision: str
    pull: PullInput
    runtime: TritonRuntimeSpec
    pull_image: str
    pull_policy: str
    replicas: int | None
    resources: Mapping[str, Any] | None
    pod_template: Mapping[str, Any] | None
    owner: list[dict[str, Any]]
    patience: int = QUICK_S
    """Seconds that a probe may take."""


def patience(p50_ms: str, writes: bool) -> int:
    """Seconds that a probe may take, from the measured latency of an answer, or of a token where the model `writes` text; "" = none
    was measured. In few sizes, so that another measurement seldom replaces pods."""
    try:
        wanted = SLACK * float(p50_ms or 0) / 1000 * (TOKENS if writes else 1)
    except ValueError:
        wanted = 0.0
    seconds = QUICK_S
    while seconds < min(wanted, SLOWEST_S):
        seconds *= 2
    return seconds


def deployment(serve: Serve) -> dict[str, Any]:
    """Pods that pull and verify the artifact, load it once, and count as ready after a real inference."""
    name = names.revision(serve.pull.model, serve.revision)
    labels = names.labels(serve.pull.model, "serve", serve.revision)
    volumes = Volumes()
    volumes.scratch("models", contract.MODELS_MOUNT)
    volumes.scratch("tmp", "/tmp")
    volumes.scratch("shm", "/dev/shm", memory="256Mi")
    template = {
        "metadata": {"labels": labels},
        "spec": pod_spec(
            [_triton(serve, volumes.mounts)],
            volumes,
            initContainers=[_pull(serve, volumes)],
            terminationGracePeriodSeconds=PRESTOP_S + EXIT_S + 10,
            **({"nodeSelector": serve.runtime.node_selector} if serve.runtime.node_selector else {}),
        ),
    }
    spec: dict[str, Any] = {
        "selector": {"matchLabels": labels},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "progressDeadlineSeconds": START_BUDGET_S,
        "revisionHistoryLimit": 1,
        "template": customize(template, serve.pod_template),
    }
    about = metadata(name, serve.namespace, labels, serve.owner)
    about["annotations"] = {names.TEMPLATE: _digest(spec["template"])}
    if serve.replicas is not None:
        spec["replicas"] = serve.replicas
        about["annotations"][names.REPLICAS] = "fixed"
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": about, "spec": spec}


def _digest(template: Mapping[str, Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(template, order="deterministic")).hexdigest()[:16]


def keep_replicas(live: Mapping[str, Any]) -> dict[str, Any]:
    """A partial Deployment that owns nothing but the present number of replicas."""
    meta = live["metadata"]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
        "spec": {"replicas": live["spec"].get("replicas", 1)},
    }


def _triton(serve: Serve, mounts: list[dict[str, Any]]) -> dict[str, Any]:
    longest = serve.patience
    waiting = [] if longest == QUICK_S else [{"name": contract.PROBE_SECONDS_ENV, "value": str(longest - 1)}]

    def probe(period: int, failures: int) -> dict[str, Any]:
        return {
            "exec": {"command": list(PROBE)},
            "periodSeconds": period,
            "timeoutSeconds": longest,
            "failureThreshold": failures,
        }

    return {
        "name": "triton",
        "image": serve.runtime.image,
        "imagePullPolicy": serve.runtime.image_pull_policy or serve.pull_policy,
        "args": [
            f"--model-repository={contract.MODELS_MOUNT}",
            "--model-control-mode=none",
            "--exit-on-error=true",
            "--strict-readiness=true",
            "--disable-auto-complete-config",
            "--allow-gpu-metrics=false",
            "--log-info=false",
            f"--exit-timeout-secs={EXIT_S}",
            *serve.runtime.args,
        ],
        **({"env": waiting} if waiting else {}),
        "ports": [
            {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
        ],
        "startupProbe": probe(1, START_BUDGET_S),
        "readinessProbe": probe(longest, 2),
        "livenessProbe": probe(max(20, longest), 6),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRESTOP_S}}},
        "resources": _resources(serve),
        "securityContext": dict(CONTAINER_SECURITY),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }


def _resources(serve: Serve) -> Mapping[str, Any]:
    """What Triton gets: with an accelerator one of the runtime's resource too, unless a number of them is given."""
    given = serve.resources or serve.runtime.resources or TRITON_RESOURCES
    if serve.pull.accelerator is None:
        return given
    return {**given, "limits": {serve.runtime.accelerator_resource: "1", **(given.get("limits") or {})}}


def _pull(serve: Serve, volumes: Volumes) -> dict[str, Any]:
    artifacts = serve.pull.artifacts
    models = [m for m in volumes.mounts if m["name"] in ("models", "tmp")]
    store = Volumes()
    store.store(artifacts, read_only=True)
    volumes.volumes.extend(store.volumes)
    return {
        "name": "pull",
        "image": serve.pull_image,
        "imagePullPolicy": serve.pull_policy,
        "command": ["python3", "-m", "optimodel.artifacts.pull"],
        "env": [
            {"name": contract.PULL_ENV, "value": contract.encode(serve.pull)},
            {"name": "OPTIMODEL_CPUS", "valueFrom": {"resourceFieldRef": _TRITON_CPUS}},
            *s3_credentials("store", artifacts.s3),
        ],
        "resources": PULL_RESOURCES,
        "securityContext": dict(CONTAINER_SECURITY),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": models + store.mounts,
    }
