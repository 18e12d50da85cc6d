"""Builders of the Services: one per revision, and the stable one under the object's name."""

from __future__ import annotations

from typing import Any

from ..api import contract, names
from .pod import metadata

HTTP_PORT = 8000
GRPC_PORT = 8001
METRICS_PORT = 8002

_PORTS = [
    {"name": "http", "port": HTTP_PORT, "protocol": "TCP", "targetPort": "http"},
    {"name": "grpc", "port": GRPC_PORT, "protocol": "TCP", "targetPort": "grpc", "appProtocol": "kubernetes.io/h2c"},
]


def service(
    *, name: str, namespace: str, model: str, revision: str, component: str, owner: list[dict[str, Any]]
) -> dict[str, Any]:
    """A Service over the pods of one revision; `component` tells the stable one (`route`) from a revision's own (`serve`)."""
    about = metadata(name, namespace, names.labels(model, component, revision), owner)
    selector = {names.MODEL: model, names.REVISION: revision, names.COMPONENT: "serve"}
    spec = {"selector": selector, "ports": [dict(p) for p in _PORTS]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": about, "spec": spec}


def rendezvous(*, namespace: str, model: str, owner: list[dict[str, Any]]) -> dict[str, Any]:
    """The headless Service that gives the pods of an optimization Job names, which they need before they are ready."""
    about = metadata(names.workers(model), namespace, names.labels(model, "optimize"), owner)
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": {names.MODEL: model, names.COMPONENT: "optimize"},
        "ports": [{"name": "rendezvous", "port": contract.RENDEZVOUS_PORT, "protocol": "TCP"}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": about, "spec": spec}
