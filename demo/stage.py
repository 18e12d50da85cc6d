"""A cluster with the operator in it: kubectl, helm, the S3 server and the gateway, as a person at a terminal has them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import obstore
from devcluster import addons, cluster
from devcluster.binaries import binary
from devcluster.paths import REPO
from obstore.store import S3Store

T = TypeVar("T")
Obj = dict[str, Any]

SYSTEM = "optimodel-system"
RELEASE = "optimodel"
KEYS = {"AWS_ACCESS_KEY_ID": "optimodel", "AWS_SECRET_ACCESS_KEY": "optimodel-dev"}
INSIDE = "http://s3.storage.svc:8333"
REGION = "us-east-1"
GATEWAY = {"name": "inference", "namespace": "gateway"}


class Kubectl:
    """kubectl on one cluster. Every call raises RuntimeError with kubectl's words, unless said otherwise."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig

    def __call__(self, *arguments: str, text: str | None = None, seconds: float = 300) -> str:
        command = [str(binary("kubectl")), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=seconds)
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *documents: Obj) -> None:
        """Server-side apply, as a GitOps pipeline does."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)})
        self("apply", "--server-side", "--force-conflicts", "-f", "-", text=text)

    def get(self, kind: str, namespace: str, name: str) -> Obj | None:
        """One object; None where it does not exist."""
        text = self("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def list(self, kind: str, namespace: str, selector: str = "") -> list[Obj]:
        """All objects of a kind in a namespace."""
        text = self("get", kind, "-n", namespace, "-o", "json", *(["-l", selector] if selector else []))
        return list(json.loads(text)["items"])

    def patch(self, kind: str, namespace: str, name: str, patch: Obj) -> None:
        """Merge patch."""
        self("patch", kind, name, "-n", namespace, "--type=merge", "-p", json.dumps(patch))


def until(done: Callable[[], T | None], seconds: float, what: str | Callable[[], str], every: float = 0.5) -> T:
    """Call `done` until it returns something true, and return that. Raises TimeoutError with `what` after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        found = done()
        if found:
            return found
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:.0f} s: {what if isinstance(what, str) else what()}")
        time.sleep(every)


def helm(kubeconfig: Path, *arguments: str) -> str:
    """Run helm and return its output. Raises RuntimeError with its words."""
    command = [str(binary("helm")), f"--kubeconfig={kubeconfig}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(f"helm {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def images() -> dict[str, str]:
    """References of the images that `make images` gave the cluster: operator, worker and triton."""
    from devcluster import images as built

    return {name: built.reference(name) for name in ("operator", "worker", "triton")}


def install(kubectl: Kubectl, replicas: int = 1) -> None:
    """Install or upgrade the chart and return once the operator is available."""
    restricted(kubectl, SYSTEM)
    values = {f"images.{name}": reference for name, reference in images().items()}
    values |= {"replicas": str(replicas), "operator.logLevel": "INFO"}
    flags = [f"--set={key}={value}" for key, value in values.items()]
    chart = str(REPO / "charts" / "optimodel")
    helm(kubectl.kubeconfig, "upgrade", "--install", RELEASE, chart, "-n", SYSTEM, "--wait", "--timeout=180s", *flags)
    # An upgrade leaves the runtime alone, since it is the platform team's: here that is us.
    kubectl("patch", "clustertritonruntime", "default", "--type=merge", "-p", runtime(values["images.triton"]))


def runtime(image: str) -> str:
    """The patch that gives a runtime its image."""
    return json.dumps({"spec": {"image": image}})


def restricted(kubectl: Kubectl, name: str) -> None:
    """A namespace that enforces the Pod Security Standard `restricted`."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})


def tenant(kubectl: Kubectl, name: str) -> None:
    """A restricted namespace with the Secret `store`."""
    restricted(kubectl, name)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "store", "namespace": name},
        "stringData": KEYS,
    }
    kubectl.apply(secret)


def bucket(prefix: str = "") -> S3Store:
    """The S3 server's bucket, as seen from this machine."""
    keys = {"access_key_id": KEYS["AWS_ACCESS_KEY_ID"], "secret_access_key": KEYS["AWS_SECRET_ACCESS_KEY"]}
    options = {"allow_http": True, "timeout": "30s"}
    return S3Store(
        addons.BUCKET,
        prefix=prefix or None,
        endpoint=os.environ.get("OPTIMODEL_S3", addons.S3),
        region=REGION,
        client_options=options,
        **keys,
    )


def upload(folder: Path, prefix: str, names: Iterable[str] = ()) -> int:
    """Put the files of a folder under a prefix; the bytes that went."""
    store, total = bucket(prefix), 0
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if not names or name in names:
            obstore.put(store, name, path)
            total += path.stat().st_size
    return total


def keys(prefix: str) -> list[str]:
    """Names of the objects under a prefix, the prefix left out."""
    return sorted(meta["path"] for batch in obstore.list(bucket(prefix)) for meta in batch)


def s3(prefix: str, secret: str = "store") -> Obj:
    """An S3 location of the bucket as a spec names it."""
    url = f"s3://{addons.BUCKET}/{prefix}"
    return {"url": url, "endpoint": INSIDE, "region": REGION, "secretRef": {"name": secret}}


def kubeconfig() -> Path:
    """The kubeconfig of the cluster in use."""
    return cluster.kubeconfig()


def gateway() -> str:
    """URL of the gateway, as seen from this machine."""
    return os.environ.get("OPTIMODEL_GATEWAY", addons.GATEWAY)
