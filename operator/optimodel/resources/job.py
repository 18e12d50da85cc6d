"""Builders of the Jobs: optimization and cleanup."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..api import contract, names
from ..api.contract import CleanupInput, JobInput
from ..api.durations import seconds
from .pod import CONTAINER_SECURITY, Volumes, customize, pod_spec, s3_credentials, source_credentials

WORKER_RESOURCES = {"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"memory": "6Gi"}}
_WORKER_CPUS = {"resource": "limits.cpu", "divisor": "1m"}
CLEANUP_RESOURCES = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}

FREED = [{"name": "MALLOC_MMAP_THRESHOLD_", "value": "1048576"}]
"""Lets the C library give back at once what gathered weights took. It would keep buffers of up to 32 MiB, and so most of a model."""
KEEP_FINISHED_S = 86_400
KEEP_CLEANUP_S = 300


def optimize_job(
    *,
    name: str,
    job: JobInput,
    owner: list[dict[str, Any]],
    image: str,
    pull_policy: str,
    timeout: str,
    pod_template: Mapping[str, Any] | None,
    queue: str | None = None,
) -> dict[str, Any]:
    """The Job that fetches, optimizes, evaluates and publishes one revision. It never retries by itself: attempts are ours.
    With a `queue` it is born suspended, and Kueue lets it go."""
    volumes = Volumes()
    volumes.scratch("work", contract.WORK_MOUNT)
    volumes.scratch("tmp", "/tmp")
    volumes.claim("source", job.source.pvc, contract.SOURCE_MOUNT, read_only=True)
    volumes.store(job.artifacts, read_only=False)
    volumes.datasets(job.data)
    volumes.models(job.models)
    worker = _worker(job, volumes, image, pull_policy, (pod_template or {}).get("resources") or WORKER_RESOURCES)
    labels = names.labels(job.model, "optimize", job.revision)
    together, place = _together(name, job)
    worker["env"] += together
    template = {
        "metadata": {"labels": labels},
        "spec": pod_spec([worker], volumes, restartPolicy="Never", terminationGracePeriodSeconds=10, **place),
    }
    spec = {
        "backoffLimit": 0,
        "activeDeadlineSeconds": int(seconds(timeout)),
        "ttlSecondsAfterFinished": KEEP_FINISHED_S,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
        },
        "template": customize(template, pod_template),
        **(_indexed(job.processes) if job.processes > 1 else {}),
        **({"suspend": True} if queue else {}),
    }
    return _job(name, job.namespace, labels | ({names.QUEUE: queue} if queue else {}), spec, owner)


def _indexed(processes: int) -> dict[str, Any]:
    """A pod a process. The first one's success is the Job's; with `backoffLimit` 0, one that is lost ends all."""
    return {
        "completionMode": "Indexed",
        "completions": processes,
        "parallelism": processes,
        "successPolicy": {"rules": [{"succeededIndexes": "0"}]},
    }


def _together(name: str, job: JobInput) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Environment and pod fields by which several processes find the first: an indexed pod is named after Job and index, and
    resolved below the headless Service."""
    if job.processes == 1:
        return [], {}
    service = names.workers(job.model)
    host = f"{name}-0.{service}"
    env = [{"name": contract.RENDEZVOUS_ENV, "value": f"{host}:{contract.RENDEZVOUS_PORT}"}]
    return [*env, *(FREED if job.parallelism == "FSDP" else [])], {"subdomain": service}


def _worker(
    job: JobInput, volumes: Volumes, image: str, pull_policy: str, resources: Mapping[str, Any]
) -> dict[str, Any]:
    env = [
        {"name": contract.JOB_ENV, "value": contract.encode(job)},
        {"name": contract.MILLICPUS_ENV, "valueFrom": {"resourceFieldRef": _WORKER_CPUS}},
        {"name": "HOME", "value": contract.WORK_MOUNT},
        *source_credentials("source", job.source),
        *s3_credentials("store", job.artifacts.s3),
        *(e for d in job.data for e in s3_credentials(f"data-{d.name}", d.s3)),
        *(e for m in job.models for e in source_credentials(f"model-{m.name}", m.source)),
    ]
    return {
        "name": "worker",
        "image": image,
        "imagePullPolicy": pull_policy,
        "env": env,
        "ports": [{"name": "progress", "containerPort": contract.PROGRESS_PORT, "protocol": "TCP"}],
        "resources": resources,
        "securityContext": dict(CONTAINER_SECURITY),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": volumes.mounts,
    }


def cleanup_job(*, name: str, model: str, cleanup: CleanupInput, image: str, pull_policy: str) -> dict[str, Any]:
    """The Job that removes the artifacts of a deleted object. It has no owner: it must outlive its object's last moment."""
    volumes = Volumes()
    volumes.scratch("tmp", "/tmp")
    volumes.store(cleanup.artifacts, read_only=False)
    container = {
        "name": "clean",
        "image": image,
        "imagePullPolicy": pull_policy,
        "command": ["python3", "-m", "optimodel.artifacts.clean"],
        "env": [
            {"name": contract.JOB_ENV, "value": contract.encode(cleanup)},
            *s3_credentials("store", cleanup.artifacts.s3),
        ],
        "resources": CLEANUP_RESOURCES,
        "securityContext": dict(CONTAINER_SECURITY),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": volumes.mounts,
    }
    labels = names.labels(model, "cleanup")
    template = {"metadata": {"labels": labels}, "spec": pod_spec([container], volumes, restartPolicy="Never")}
    spec = {
        "backoffLimit": 2,
        "activeDeadlineSeconds": 600,
        "ttlSecondsAfterFinished": KEEP_CLEANUP_S,
        "template": template,
    }
    return _job(name, cleanup.namespace, labels, spec, [])


def _job(
    name: str, namespace: str, labels: dict[str, str], spec: dict[str, Any], owner: list[dict[str, Any]]
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "labels": labels}
    if owner:
        metadata["ownerReferences"] = owner
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
