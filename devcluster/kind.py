"""The same cluster inside Docker, by kind, on machines where both run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from devcluster import addons, archive, binaries, node
from devcluster.paths import CLUSTER

NAME = "optimodel"
KUBECONFIG = CLUSTER / "kind.kubeconfig"
IN_KIND = ("metrics-server", "traefik", "s3")


def usable() -> bool:
    """Say whether kind is installed and a Docker daemon answers."""
    if not (shutil.which("kind") and shutil.which("docker")):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def up() -> None:
    """Create the kind cluster unless it exists, and install metrics, the gateway and the S3 server in it."""
    listed = subprocess.run(["kind", "get", "clusters"], capture_output=True, text=True, check=True).stdout
    if NAME not in listed.split():
        CLUSTER.mkdir(parents=True, exist_ok=True)
        subprocess.run(["kind", "create", "cluster", "--name", NAME, "--kubeconfig", str(KUBECONFIG)], check=True)
    for name in IN_KIND:
        program, target = node.SYSTEM_IMAGES[name], CLUSTER / f"{name}.tar"
        archive.write(target, node.system_image(name), {f"/{program}": binaries.binary(program)}, [f"/{program}"])
        load(target)
        target.unlink()
    addons.install(KUBECONFIG, ("metrics", "storage", "gateway"))


def load(image: Path) -> None:
    """Give the nodes an image archive."""
    subprocess.run(["kind", "load", "image-archive", "--name", NAME, str(image)], check=True)


def down() -> None:
    """Delete the kind cluster."""
    subprocess.run(["kind", "delete", "cluster", "--name", NAME], check=True)
