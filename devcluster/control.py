"""Command lines of etcd and the Kubernetes control plane, shared by the whole node and by the API server alone."""

from __future__ import annotations

import json
import socket
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from devcluster.binaries import binary
from devcluster.pki import Pki

SERVICES = "10.96.0.0/16"
PODS = "10.244.0.0/16"
FIRST_SERVICE = "10.96.0.1"
NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"]},
        {"level": "None"},
    ],
}


def free_port() -> int:
    """Return a TCP port of loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Control:
    """A control plane in one folder: ``pki/``, ``etcd/``, ``audit.log`` and kubeconfigs lie in it.

    ``node_ip`` is the address that pods reach the API server at; None for an API server on loopback only.
    ``servers`` is how many API servers this one takes itself for; one of several serves a new kind 5 s after its CRD.
    """

    folder: Path
    port: int
    etcd_port: int
    etcd_peer_port: int
    node_ip: str | None = None
    servers: int = 1

    @property
    def url(self) -> str:
        """Address of the API server, as seen from this machine."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def pki(self) -> Pki:
        """The certificates."""
        return Pki(self.folder / "pki")

    @property
    def audit_log(self) -> Path:
        """One JSON object a line for every write that the API server answered, at level Metadata."""
        return self.folder / "audit.log"

    def kubeconfig(self, name: str = "admin") -> Path:
        """Return the path of the kubeconfig of a component, or of the administrator."""
        return self.folder / ("kubeconfig" if name == "admin" else f"{name}.kubeconfig")

    def prepare(self) -> None:
        """Make certificates, kubeconfigs and the audit policy where they are missing."""
        pki, node = self.pki, f",IP:{FIRST_SERVICE},IP:{self.node_ip}" if self.node_ip else ""
        pki.authority("ca")
        pki.authority("proxy-ca")
        pki.token_keys()
        pki.certificate("apiserver", "/CN=kube-apiserver", ",".join(f"DNS:{n}" for n in NAMES) + ",IP:127.0.0.1" + node)
        pki.certificate("admin", "/O=system:masters/CN=admin")
        pki.certificate("front-proxy", "/CN=front-proxy-client", ca="proxy-ca")
        for name in ("kube-controller-manager", "kube-scheduler", "kube-proxy"):
            pki.certificate(name, f"/CN=system:{name}")
        for name in ("admin", "kube-controller-manager", "kube-scheduler", "kube-proxy"):
            pki.kubeconfig(name, self.url, self.kubeconfig(name))
        (self.folder / "audit-policy.json").write_text(json.dumps(AUDIT_POLICY))

    def etcd(self) -> list[str]:
        """Return etcd's command line. It does not sync to disk: the data is for tests."""
        client, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self.etcd_peer_port}"
        command = [str(binary("etcd")), f"--data-dir={self.folder / 'etcd'}", "--unsafe-no-fsync", "--log-level=warn"]
        command += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
        command += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        return [*command, f"--initial-cluster=default={peer}", "--quota-backend-bytes=4294967296"]

    def apiserver(self) -> list[str]:
        """Return kube-apiserver's command line."""
        pki = self.pki.path
        address = ["--bind-address=0.0.0.0", f"--advertise-address={self.node_ip}"] if self.node_ip else []
        address = address or [
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--apiserver-count={self.servers}",
        ]
        return [
            str(binary("kube-apiserver")),
            f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            *address,
            f"--secure-port={self.port}",
            f"--client-ca-file={pki('ca.crt')}",
            f"--tls-cert-file={pki('apiserver.crt')}",
            f"--tls-private-key-file={pki('apiserver.key')}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki('sa.pub')}",
            f"--service-account-signing-key-file={pki('sa.key')}",
            f"--service-cluster-ip-range={SERVICES}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--kubelet-client-certificate={pki('admin.crt')}",
            f"--kubelet-client-key={pki('admin.key')}",
            f"--kubelet-certificate-authority={pki('ca.crt')}",
            "--kubelet-preferred-address-types=InternalIP",
            *self._front_proxy(),
            "--enable-aggregator-routing=true",
            "--allow-privileged=true",
            f"--audit-policy-file={self.folder / 'audit-policy.json'}",
            f"--audit-log-path={self.audit_log}",
            "--audit-log-maxsize=1000",
            "--audit-log-mode=blocking",
            "--shutdown-delay-duration=0s",
        ]

    def _front_proxy(self) -> list[str]:
        pki = self.pki.path
        return [
            f"--requestheader-client-ca-file={pki('proxy-ca.crt')}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={pki('front-proxy.crt')}",
            f"--proxy-client-key-file={pki('front-proxy.key')}",
        ]

    def controller_manager(self) -> list[str]:
        """Return kube-controller-manager's command line; autoscaling looks every 5 s."""
        pki = self.pki.path
        return [
            str(binary("kube-controller-manager")),
            f"--kubeconfig={self.kubeconfig('kube-controller-manager')}",
            f"--service-account-private-key-file={pki('sa.key')}",
            f"--root-ca-file={pki('ca.crt')}",
            f"--cluster-signing-cert-file={pki('ca.crt')}",
            f"--cluster-signing-key-file={pki('ca.key')}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            "--horizontal-pod-autoscaler-sync-period=5s",
            "--horizontal-pod-autoscaler-cpu-initialization-period=10s",
            "--horizontal-pod-autoscaler-initial-readiness-delay=5s",
            "--node-monitor-period=2s",
        ] + (
            ["--allocate-node-cidrs=true", f"--cluster-cidr={PODS}", f"--service-cluster-ip-range={SERVICES}"]
            if self.node_ip
            else ["--controllers=*,-nodeipam,-node-route-controller,-cloud-node-lifecycle-controller"]
        )

    def scheduler(self) -> list[str]:
        """Return kube-scheduler's command line."""
        command = [str(binary("kube-scheduler")), f"--kubeconfig={self.kubeconfig('kube-scheduler')}"]
        command += ["--leader-elect=false", "--bind-address=127.0.0.1", f"--secure-port={free_port()}"]
        return [*command, "--kube-api-qps=200", "--kube-api-burst=400"]

    def get(self, path: str, seconds: float = 2.0) -> str | None:
        """GET a path as administrator; None for any failure."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=seconds, context=self._tls()) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            return None

    def ready(self) -> bool:
        """Say whether the API server answers /readyz."""
        return self.get("/readyz") == "ok"

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.pki.path("ca.crt")))
        context.load_cert_chain(self.pki.path("admin.crt"), self.pki.path("admin.key"))
        return context
