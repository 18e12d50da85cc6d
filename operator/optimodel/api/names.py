"""Names, labels and annotations: deterministic, so that doing a thing twice does it once."""

from __future__ import annotations

GROUP = "optimodel.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
FIELD_MANAGER = "optimodel"

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "optimodel"
MODEL = f"{GROUP}/model"
REVISION = f"{GROUP}/revision"
COMPONENT = f"{GROUP}/component"
"""`revision`, `optimize`, `serve`, `route` or `cleanup`."""
APPLIED = f"{GROUP}/applied"
"""Annotation: digest of the manifest as we last applied it."""
REPLICAS = f"{GROUP}/replicas"
"""Annotation `fixed` of a Deployment whose replicas we own, and not an autoscaler."""
TEMPLATE = f"{GROUP}/template"
"""Annotation: digest of the pod template that a Deployment was last applied with."""
HANDOVER_MANAGER = "optimodel-handover"
"""Field manager that keeps `replicas` where they are while ownership passes to an autoscaler."""
ACTION = f"{GROUP}/action"
"""Annotation by which a person acts: `approve HASH/STEP`, `promote HASH`, `abort HASH`, `pause HASH`, `resume HASH`, `retry HASH`."""
QUEUE = "kueue.x-k8s.io/queue-name"
"""Label by which Kueue takes a Job into a queue. From then on `spec.suspend` is Kueue's."""
FINALIZER = f"{GROUP}/artifacts"
SELECTOR = f"{MANAGED_BY}={MANAGER}"


def labels(model: str, component: str, revision: str = "") -> dict[str, str]:
    """Labels of an owned object."""
    found = {MANAGED_BY: MANAGER, MODEL: model, COMPONENT: component}
    return found | {REVISION: revision} if revision else found


def revision(model: str, hash: str) -> str:
    """Name of a ModelRevision, and of the Deployment, Service and HorizontalPodAutoscaler that serve it."""
    return f"{model}-{hash}"


def job(model: str, hash: str, job_hash: str, attempt: int) -> str:
    """Name of an optimization Job."""
    return f"{model}-{hash}-{job_hash}-a{attempt}"


def workers(model: str) -> str:
    """Name of the headless Service, and of the NetworkPolicy, by which the processes of one Job reach each other."""
    return f"{model}-workers"


def cleanup(model: str, uid: str) -> str:
    """Name of the Job that removes artifacts of a deleted object."""
    return f"{model}-cleanup-{uid[:8]}"
