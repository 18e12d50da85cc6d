"""Builder of the HorizontalPodAutoscaler of one revision."""

from __future__ import annotations

from typing import Any

from ..api import names
from ..api.spec import Autoscaling
from .pod import metadata


def autoscaler(
    *, namespace: str, model: str, revision: str, spec: Autoscaling, floor: int, owner: list[dict[str, Any]]
) -> dict[str, Any]:
    """Scales on CPU utilisation between the user's bounds; `floor` raises the minimum while a rollout needs it."""
    name = names.revision(model, revision)
    least = max(spec.min_replicas, floor)
    body: dict[str, Any] = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": least,
        "maxReplicas": max(spec.max_replicas, least),
        "metrics": [
            {
                "type": "Resource",
                "resource": {
                    "name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": spec.target_cpu_utilization},
                },
            }
        ],
    }
    if spec.behavior:
        body["behavior"] = spec.behavior
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(name, namespace, names.labels(model, "serve", revision), owner),
        "spec": body,
    }
