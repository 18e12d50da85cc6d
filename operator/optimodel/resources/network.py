"""Builders of the NetworkPolicies that fence one model's pods."""

from __future__ import annotations

from typing import Any

from ..api import contract, names
from .pod import metadata
from .service import GRPC_PORT, HTTP_PORT, METRICS_PORT

_NAMESPACE = "kubernetes.io/metadata.name"


def network_policy(
    *, namespace: str, model: str, operator_namespace: str, gateway_namespace: str, owner: list[dict[str, Any]]
) -> dict[str, Any]:
    """Ingress only: the gateway and the object's own namespace reach inference, the operator reaches inference and progress."""

    def ports(*numbers: int) -> list[dict[str, Any]]:
        return [{"port": n, "protocol": "TCP"} for n in numbers]

    def namespaces(name: str) -> list[dict[str, Any]]:
        return [{"namespaceSelector": {"matchLabels": {_NAMESPACE: name}}}]

    rules = [
        {"from": namespaces(operator_namespace), "ports": ports(contract.PROGRESS_PORT, HTTP_PORT, METRICS_PORT)},
        {"from": [{"podSelector": {}}], "ports": ports(HTTP_PORT, GRPC_PORT)},
    ]
    if gateway_namespace:
        rules.append({"from": namespaces(gateway_namespace), "ports": ports(HTTP_PORT, GRPC_PORT)})
    about = metadata(model, namespace, names.labels(model, "serve"), owner)
    return _policy(about, {"matchLabels": {names.MODEL: model}}, rules)


def workers_policy(*, namespace: str, model: str, owner: list[dict[str, Any]]) -> dict[str, Any]:
    """The processes of an optimization Job reach each other on every port: gloo listens where the kernel lets it."""
    selector = {"matchLabels": {names.MODEL: model, names.COMPONENT: "optimize"}}
    about = metadata(names.workers(model), namespace, names.labels(model, "optimize"), owner)
    return _policy(about, selector, [{"from": [{"podSelector": selector}]}])


def _policy(about: dict[str, Any], selector: dict[str, Any], ingress: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": about,
        "spec": {"podSelector": selector, "policyTypes": ["Ingress"], "ingress": ingress},
    }
