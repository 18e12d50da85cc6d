"""Pieces that every pod of ours is made of: the restricted security context, credentials, claims, and the user's template."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..api import contract
from ..api.names import API_VERSION
from ..api.sources import PVC, S3, Artifacts, Dataset, HuggingFace, LocalRef, Model, Source

USER = 65532

CONTAINER_SECURITY: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""Container half of the Pod Security Standard `restricted`, and a read-only root on top."""

POD_SECURITY: dict[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}

TEMPLATE_SPEC_KEYS = (
    "affinity",
    "imagePullSecrets",
    "nodeSelector",
    "priorityClassName",
    "runtimeClassName",
    "schedulerName",
    "serviceAccountName",
    "tolerations",
    "topologySpreadConstraints",
)
"""What a user's pod template may say of `spec`; nothing that weakens isolation."""


def credentials(role: str, ref: LocalRef | None, keys: Iterable[str]) -> list[dict[str, Any]]:
    """Environment that carries a Secret's keys into the container. A missing Secret then shows as a container config error."""
    if ref is None:
        return []
    names = contract.credential_env(role)
    return [{"name": names[k], "valueFrom": {"secretKeyRef": {"name": ref.name, "key": k}}} for k in keys]


S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def s3_credentials(role: str, s3: S3 | None) -> list[dict[str, Any]]:
    """Credentials of an S3 prefix."""
    return credentials(role, s3.secret_ref, S3_KEYS) if s3 else []


def source_credentials(role: str, source: Source) -> list[dict[str, Any]]:
    """Credentials of a model's source."""
    hub: HuggingFace | None = source.hugging_face
    if hub:
        return credentials(role, hub.secret_ref, ("HF_TOKEN",))
    return s3_credentials(role, source.s3)


class Volumes:
    """Volumes and mounts of one pod, collected in a stable order."""

    def __init__(self) -> None:
        self.volumes: list[dict[str, Any]] = []
        self.mounts: list[dict[str, Any]] = []

    def scratch(self, name: str, path: str, *, memory: str | None = None) -> None:
        """An emptyDir; `memory` = a tmpfs of that size."""
        empty: dict[str, Any] = {"medium": "Memory", "sizeLimit": memory} if memory else {}
        self.volumes.append({"name": name, "emptyDir": empty})
        self.mounts.append({"name": name, "mountPath": path})

    def claim(self, name: str, pvc: PVC | None, path: str, *, read_only: bool) -> None:
        """A claim of the object's namespace; nothing when `pvc` is None."""
        if pvc is None:
            return
        source: dict[str, Any] = {"claimName": pvc.claim_name}
        mount: dict[str, Any] = {"name": name, "mountPath": path}
        if read_only:
            source["readOnly"] = True
            mount["readOnly"] = True
        self.volumes.append({"name": name, "persistentVolumeClaim": source})
        self.mounts.append(mount)

    def store(self, artifacts: Artifacts, *, read_only: bool) -> None:
        """The artifact store, where it is a claim."""
        self.claim("store", artifacts.pvc, contract.STORE_MOUNT, read_only=read_only)

    def datasets(self, data: Iterable[Dataset]) -> None:
        """Every dataset that lies on a claim."""
        for d in data:
            self.claim(f"data-{d.name}", d.pvc, f"{contract.DATA_MOUNT}/{d.name}", read_only=True)

    def models(self, models: Iterable[Model]) -> None:
        """Every other model that lies on a claim."""
        for m in models:
            self.claim(f"model-{m.name}", m.pvc, f"{contract.MODEL_MOUNT}/{m.name}", read_only=True)


def pod_spec(containers: list[dict[str, Any]], volumes: Volumes, **more: Any) -> dict[str, Any]:
    """A pod spec under `restricted`, without a service account token."""
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": dict(POD_SECURITY),
        "containers": containers,
        "volumes": volumes.volumes,
        **more,
    }


def customize(template: dict[str, Any], user: Mapping[str, Any] | None) -> dict[str, Any]:
    """The pod template with the user's labels, annotations and scheduling knobs; our own keys win, of a map such as the
    node selector one by one."""
    if not user:
        return template
    extra = user.get("metadata") or {}
    metadata = template["metadata"]
    merged = {
        "labels": {**(extra.get("labels") or {}), **metadata["labels"]},
        "annotations": {**(extra.get("annotations") or {}), **metadata.get("annotations", {})},
    }
    chosen = {k: v for k, v in (user.get("spec") or {}).items() if k in TEMPLATE_SPEC_KEYS}
    spec = {**chosen, **template["spec"]}
    if "nodeSelector" in spec:
        spec["nodeSelector"] = (chosen.get("nodeSelector") or {}) | (template["spec"].get("nodeSelector") or {})
    return {"metadata": {k: v for k, v in merged.items() if v}, "spec": spec}


def metadata(name: str, namespace: str, labels: dict[str, str], owner: list[dict[str, Any]]) -> dict[str, Any]:
    """Metadata of an object that goes with its OptimizedModel."""
    return {"name": name, "namespace": namespace, "labels": labels, "ownerReferences": owner}


def owner(name: str, uid: str) -> list[dict[str, Any]]:
    """Controller reference to the OptimizedModel."""
    return [
        {
            "apiVersion": API_VERSION,
            "kind": "OptimizedModel",
            "name": name,
            "uid": uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]
