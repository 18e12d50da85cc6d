"""The kinds that the operator reads and writes, and where the API server keeps them."""

from __future__ import annotations

from dataclasses import dataclass

from ..api import names


@dataclass(frozen=True)
class Kind:
    """A kind in one version. `owned` kinds are watched by our label only; `optional` ones may be absent from a cluster."""

    kind: str
    api_version: str
    plural: str
    namespaced: bool = True
    owned: bool = True
    optional: bool = False

    @property
    def group(self) -> str:
        """API group; "" for the core."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """Version within the group."""
        return self.api_version.rpartition("/")[2]

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """URL path of the collection, an object or its subresource."""
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        where = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return "/".join(part for part in (root + where, self.plural, name, subresource) if part)


_GATEWAY = "gateway.networking.k8s.io/v1"

WATCHED: tuple[Kind, ...] = (
    Kind("OptimizedModel", names.API_VERSION, "optimizedmodels", owned=False),
    Kind("ModelRevision", names.API_VERSION, "modelrevisions", owned=False),
    Kind("TritonRuntime", names.API_VERSION, "tritonruntimes", owned=False),
    Kind("ClusterTritonRuntime", names.API_VERSION, "clustertritonruntimes", namespaced=False, owned=False),
    Kind("OptimizationRecipe", names.API_VERSION, "optimizationrecipes", owned=False),
    Kind("ClusterOptimizationRecipe", names.API_VERSION, "clusteroptimizationrecipes", namespaced=False, owned=False),
    Kind("Job", "batch/v1", "jobs"),
    Kind("Pod", "v1", "pods"),
    Kind("Deployment", "apps/v1", "deployments"),
    Kind("Service", "v1", "services"),
    Kind("HorizontalPodAutoscaler", "autoscaling/v2", "horizontalpodautoscalers"),
    Kind("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies"),
    Kind("HTTPRoute", _GATEWAY, "httproutes", optional=True),
    Kind("GRPCRoute", _GATEWAY, "grpcroutes", optional=True),
)
"""What is observed."""

LEASE = Kind("Lease", "coordination.k8s.io/v1", "leases")
EVENT = Kind("Event", "v1", "events")

KINDS: dict[str, Kind] = {kind.kind: kind for kind in WATCHED}
