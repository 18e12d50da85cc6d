"""A whole Kubernetes node on this very machine: control plane, containerd, kubelet, kube-proxy and an image registry."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable

from devcluster import archive, network
from devcluster.binaries import binary, version_key
from devcluster.control import PODS, Control
from devcluster.paths import CLUSTER
from devcluster.processes import Process, all_processes, descendants, signal_quietly, wait_until

NAME = "optimodel"
REGISTRY_PORT = 15000
REGISTRY = f"localhost:{REGISTRY_PORT}"
SOCKET = CLUSTER / "containerd.sock"
CONTAINERD_ROOT = CLUSTER / "containerd"
CONTROL = Control(CLUSTER, 16443, 12379, 12380, network.NODE_IP)
ORDER = (
    "etcd",
    "apiserver",
    "registry",
    "containerd",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
)
SYSTEM_IMAGES = {
    "helper": "helper",
    "coredns": "coredns",
    "metrics-server": "metrics-server",
    "local-path-provisioner": "local-path-provisioner",
    "traefik": "traefik",
    "s3": "weed",
}
COMPLETE = CLUSTER / "complete"  # there once everything beside Kubernetes stands too
USED = CLUSTER / "used"  # there while this machine's network may carry traces of the node
SCRATCH = (
    "etcd",
    "kubelet",
    "kubelet-pki",
    "state",
    "cni",
    "pods-log",
    "volumes",
    "audit.log",
    "containerd.sock",
    "containerd.sock.ttrpc",
)


def process(name: str) -> Process:
    """Return one of the node's processes by its name in ORDER."""
    return Process(name, CLUSTER / "run", CLUSTER / "log")


def system_image(name: str) -> str:
    """Return the reference of an image that holds one of the cluster's own programs."""
    return f"localhost/optimodel-system/{name}:{version_key(SYSTEM_IMAGES[name])}"


def running() -> bool:
    """Say whether every process lives and the node is Ready."""
    return all(process(name).pid for name in ORDER) and CONTROL.ready() and node_ready()


def node_ready() -> bool:
    """Say whether the node reports Ready."""
    answer = CONTROL.get(f"/api/v1/nodes/{NAME}")
    conditions = json.loads(answer)["status"].get("conditions", []) if answer else []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def start() -> None:
    """Start every process and return once the node is Ready; what a dead cluster left is removed first."""
    stop()
    USED.parent.mkdir(parents=True, exist_ok=True)
    USED.touch()
    network.prepare()
    prepare()
    process("etcd").start(CONTROL.etcd())
    process("apiserver").start(CONTROL.apiserver())
    process("registry").start([str(binary("registry")), "serve", str(CLUSTER / "registry.json")])
    start_containerd()
    import_system_images()
    must(CONTROL.ready, "apiserver", 60)
    process("kube-controller-manager").start(CONTROL.controller_manager())
    process("kube-scheduler").start(CONTROL.scheduler())
    process("kubelet").start(kubelet())
    process("kube-proxy").start(kube_proxy())
    must(node_ready, "kubelet", 60)


def must(done: Callable[[], bool], name: str, seconds: float) -> None:
    """Wait for a condition, or raise SystemExit with the end of that process's log."""
    if not wait_until(lambda: done() or not process(name).pid, seconds, 0.1) or not process(name).pid:
        raise SystemExit(f"{name} did not become ready:\n{process(name).tail()}")


def prepare() -> None:
    """Write certificates and configuration files."""
    CONTROL.prepare()
    san = f"DNS:{NAME},IP:127.0.0.1,IP:{network.NODE_IP}"
    CONTROL.pki.certificate("kubelet", f"/O=system:nodes/CN=system:node:{NAME}", san)
    CONTROL.pki.kubeconfig("kubelet", CONTROL.url, CONTROL.kubeconfig("kubelet"))
    for folder in ("cni/conf", "volumes", "registry"):
        (CLUSTER / folder).mkdir(parents=True, exist_ok=True)
    config = network.network_config(CLUSTER / "cni" / "addresses")
    (CLUSTER / "cni" / "conf" / "10-optimodel.conflist").write_text(json.dumps(config))
    (CLUSTER / "containerd.toml").write_text(containerd_config())
    (CLUSTER / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    (CLUSTER / "kubelet.json").write_text(json.dumps(kubelet_config()))
    storage = {"filesystem": {"rootdirectory": str(CLUSTER / "registry")}, "delete": {"enabled": True}}
    http = {"addr": f"127.0.0.1:{REGISTRY_PORT}"}
    log = {"level": "warn", "accesslog": {"disabled": True}}
    (CLUSTER / "registry.json").write_text(json.dumps({"version": 0.1, "log": log, "storage": storage, "http": http}))


def containerd_config() -> str:
    """Return containerd's configuration. Not every root may lower its OOM score, hence restrict_oom_score_adj."""
    return f"""version = 2
root = "{CONTAINERD_ROOT}"
state = "{CLUSTER / "state"}"
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{system_image("helper")}"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    discard_unpacked_layers = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{CLUSTER / "cni" / "conf"}"
"""


def kubelet_config() -> dict[str, object]:
    """Return the KubeletConfiguration."""
    pki = CONTROL.pki.path
    x509 = {"clientCAFile": str(pki("ca.crt"))}
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}, "x509": x509},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki("kubelet.crt")),
        "tlsPrivateKeyFile": str(pki("kubelet.key")),
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": ["10.96.0.10"],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "resolvConf": str(CLUSTER / "resolv.conf"),
        "podLogsDir": str(CLUSTER / "pods-log"),
        "syncFrequency": "10s",
        "nodeStatusUpdateFrequency": "4s",
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "maxPods": 200,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1Gi"},
    }


def kubelet() -> list[str]:
    """Return kubelet's command line."""
    command = [str(binary("kubelet")), f"--config={CLUSTER / 'kubelet.json'}", f"--hostname-override={NAME}"]
    command += [f"--kubeconfig={CONTROL.kubeconfig('kubelet')}", f"--node-ip={network.NODE_IP}"]
    return [*command, f"--root-dir={CLUSTER / 'kubelet'}", f"--cert-dir={CLUSTER / 'kubelet-pki'}"]


def kube_proxy() -> list[str]:
    """Return kube-proxy's command line."""
    command = [str(binary("kube-proxy")), f"--kubeconfig={CONTROL.kubeconfig('kube-proxy')}"]
    command += [f"--hostname-override={NAME}", f"--cluster-cidr={PODS}", "--proxy-mode=iptables"]
    command += ["--conntrack-max-per-core=0", "--healthz-bind-address=127.0.0.1:10256"]
    return [*command, "--metrics-bind-address=127.0.0.1:10249", "--iptables-min-sync-period=100ms"]


def ctr(*arguments: str) -> str:
    """Run containerd's client in the namespace of Kubernetes and return its output."""
    command = ["ctr", "--address", str(SOCKET), "--namespace", "k8s.io", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def start_containerd() -> None:
    """Start containerd; containers that an earlier, dead run left in its database are removed."""
    daemon = process("containerd")
    for _ in range(2):
        daemon.start(["containerd", "--config", str(CLUSTER / "containerd.toml")])
        must(answers, "containerd", 30)
        stale = ctr("containers", "list", "--quiet").split()
        if not stale:
            return
        ctr("containers", "remove", *stale)
        daemon.stop()
        for folder in ("containers", "sandboxes"):
            shutil.rmtree(CONTAINERD_ROOT / "io.containerd.grpc.v1.cri" / folder, ignore_errors=True)


def answers() -> bool:
    """Say whether containerd answers on its socket."""
    command = ["ctr", "--address", str(SOCKET), "version"]
    return SOCKET.exists() and subprocess.run(command, capture_output=True, timeout=5).returncode == 0


def import_system_images() -> None:
    """Give containerd the images of the cluster's own programs, those that it lacks."""
    have = set(ctr("images", "list", "--quiet").split())
    for name, program in SYSTEM_IMAGES.items():
        if system_image(name) not in have:
            target = CLUSTER / f"{name}.tar"
            archive.write(target, system_image(name), {f"/{program}": binary(program)}, [f"/{program}"])
            ctr("images", "import", str(target))
            target.unlink()


def shims() -> set[int]:
    """Return the pids of our containers: the shims started by our containerd and all below them."""
    roots = {pid for pid, _, words in all_processes() if "containerd-shim" in words[0] and str(SOCKET) in words}
    return descendants(roots) if roots else set()


def kill_containers() -> None:
    """Kill every container, and have containerd forget them while it still runs."""
    for _ in range(3):
        family = shims()
        for pid in family:
            signal_quietly(pid, signal.SIGKILL)
        if not family or wait_until(lambda: not shims(), 5, 0.05):
            break
    if process("containerd").pid and answers():
        for identifier in ctr("containers", "list", "--quiet").split():
            for verb in ("tasks", "containers"):
                command = ["ctr", "--address", str(SOCKET), "--namespace", "k8s.io", verb, "remove", identifier]
                subprocess.run(command, capture_output=True, check=False)


def stop() -> None:
    """Stop every process and container and remove every trace, also of a run that died; images and binaries stay."""
    for name in ("kubelet", "kube-proxy", "kube-scheduler", "kube-controller-manager"):
        process(name).stop(grace=3)
    kill_containers()
    for name in ("containerd", "registry", "apiserver", "etcd"):
        process(name).stop(grace=5)
    if USED.exists():
        network.remove_everything(CLUSTER)
    for name in SCRATCH:
        path = CLUSTER / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    COMPLETE.unlink(missing_ok=True)
    USED.unlink(missing_ok=True)
