"""What stands in the cluster beside Kubernetes: DNS, metrics, a storage class, a gateway and an S3 server."""

from __future__ import annotations

import string
import subprocess
import urllib.request
from pathlib import Path

from devcluster import node
from devcluster.binaries import binary, gateway_api
from devcluster.paths import CLUSTER, REPO
from devcluster.processes import wait_until

MANIFESTS = REPO / "devcluster" / "manifests"
S3 = "http://10.96.0.83:8333"
FILER = "http://10.96.0.83:8888"
GATEWAY = "http://10.96.0.80:8000"
BUCKET = "models"
DEPLOYMENTS = (
    ("kube-system", "coredns"),
    ("kube-system", "metrics-server"),
    ("kube-system", "local-path-provisioner"),
    ("gateway", "traefik"),
    ("storage", "s3"),
)


class Template(string.Template):
    """``${name}`` with dashes allowed in names."""

    idpattern = r"[a-z0-9-]+"


def kubectl(kubeconfig: Path, *arguments: str, text: str | None = None) -> str:
    """Run kubectl and return its output; raises SystemExit with its words when it fails."""
    command = [str(binary("kubectl")), f"--kubeconfig={kubeconfig}", *arguments]
    answer = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"kubectl {' '.join(arguments)}: {answer.stderr.strip()}")
    return answer.stdout


def apply(kubeconfig: Path, text: str) -> None:
    """Server-side apply manifests."""
    kubectl(kubeconfig, "apply", "--server-side", "--force-conflicts", "-f", "-", text=text)


def define(kubeconfig: Path, crds: str, seconds: float = 30.0) -> None:
    """Apply CRDs and return once clients know every kind that there is, which is a while after its CRD is established.

    Raises SystemExit when they do not within `seconds`.
    """
    apply(kubeconfig, crds)
    kinds = kubectl(kubeconfig, "get", "crd", "-o", "jsonpath={.items[*].metadata.name}").replace(" ", ",")
    known = [str(binary("kubectl")), f"--kubeconfig={kubeconfig}", "get", kinds, "--all-namespaces"]
    if not wait_until(lambda: subprocess.run(known, capture_output=True).returncode == 0, seconds, 0.2):
        raise SystemExit(f"the API server does not serve {kinds} after {seconds:.0f} s")


def render(name: str, volumes: Path = CLUSTER / "volumes") -> str:
    """Return a manifest file with the images' references and the volumes' folder filled in."""
    values = {image: node.system_image(image) for image in node.SYSTEM_IMAGES}
    return Template((MANIFESTS / f"{name}.yaml").read_text()).substitute(values, volumes=str(volumes))


def install(
    kubeconfig: Path, names: tuple[str, ...] = ("metrics", "dns", "storage-class", "storage", "gateway")
) -> None:
    """Apply the manifests; those of the gateway after the Gateway API's own definitions."""
    if "gateway" in names:
        crds = [path.read_text() for path in sorted(gateway_api().glob("*.yaml")) if "_vap_" not in path.name]
        define(kubeconfig, "\n---\n".join(crds))
    apply(kubeconfig, "\n---\n".join(render(name) for name in names))


def wait(kubeconfig: Path, seconds: int = 120) -> None:
    """Return once every deployment is available, metrics are served and the bucket exists."""
    for namespace, name in DEPLOYMENTS:
        available = ("--for=condition=Available", f"--timeout={seconds}s")
        kubectl(kubeconfig, "wait", "-n", namespace, *available, f"deployment/{name}")
    create_bucket(BUCKET)
    kubectl(
        kubeconfig, "wait", "--for=condition=Available", f"--timeout={seconds}s", "apiservice/v1beta1.metrics.k8s.io"
    )


def create_bucket(name: str, seconds: float = 30) -> None:
    """Make a bucket of the S3 server; one that exists is no error."""

    def made() -> bool:
        request = urllib.request.Request(f"{FILER}/buckets/{name}/", method="POST")
        try:
            with urllib.request.urlopen(request, timeout=3) as answer:
                return bool(answer.status < 300)
        except OSError:
            return False

    if not wait_until(made, seconds, 0.3):
        raise SystemExit(f"the S3 server did not make the bucket {name}")
