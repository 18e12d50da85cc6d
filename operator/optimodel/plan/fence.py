"""Who may reach the pods of an object: its NetworkPolicies, and the Service by which processes of one Job find each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..api import names
from ..resources import pod as parts
from ..resources.network import network_policy, workers_policy
from ..resources.service import rendezvous
from . import pods
from .optimize import ref
from .types import Manifest, Ref, Snapshot


def wanted(s: Snapshot) -> tuple[dict[str, Any], ...]:
    """The manifests to apply."""
    owner = parts.owner(s.meta.name, s.meta.uid)
    here: dict[str, Any] = {"namespace": s.meta.namespace, "model": s.meta.name, "owner": owner}
    found: list[dict[str, Any]] = []
    if s.platform.network_policy:
        found.append(
            network_policy(
                operator_namespace=s.platform.operator_namespace,
                gateway_namespace=s.platform.gateway_namespace,
                **here,
            )
        )
    if s.spec.optimization.processes > 1:
        found.append(rendezvous(**here))
        if s.platform.network_policy:
            found.append(workers_policy(**here))
    return tuple(found)


def surplus(s: Snapshot) -> tuple[Ref, ...]:
    """What is not wanted any more: of a time with other settings of the installation, or with more processes."""
    keep = {(m["kind"], m["metadata"]["name"]) for m in wanted(s)}
    return tuple(ref(x) for x in _ours(s) if (x["kind"], x["metadata"]["name"]) not in keep and not pods.is_deleting(x))


def _ours(s: Snapshot) -> Iterable[Manifest]:
    shared = (x for x in s.services if x["metadata"]["labels"].get(names.COMPONENT) == "optimize")
    return (*s.network_policies, *shared)
