"""Builders of the NetworkPolicies that fence one model's pods."""

from __future__ import annotations

from typing import Any

from ..api import contract, names
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
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": model,
            "namespace": namespace,
            "labels": names.labels(model, "serve"),
            "ownerReferences": owner,
        },
        "spec": {"podSelector": {"matchLabels": {names.MODEL: model}}, "policyTypes": ["Ingress"], "ingress": rules},
    }


def workers_policy(*, namespace: str, model: str, owner: list[dict[str, Any]]) -> dict[str, Any]:
    """The processes of an optimization Job reach each other on every port: gloo listens where the kernel lets it."""
    selector = {"matchLabels": {names.MODEL: model, names.COMPONENT: "optimize"}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": names.workers(model),
            "namespace": namespace,
            "labels": names.labels(model, "optimize"),
            "ownerReferences": owner,
        },
        "spec": {
            "podSelector": selector,
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": selector}]}],
        },
    }
