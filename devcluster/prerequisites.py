"""What the bare node needs from the machine: checked with a clear message, installed where that is possible."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "iptables-save": "iptables",
    "ip": "iproute2",
    "conntrack": "conntrack",
    "openssl": "openssl",
    "mount": "mount",
}
BUILDERS = {"buildah": "buildah", "mmdebstrap": "mmdebstrap"}


def present(name: str) -> bool:
    """Say whether a command or file is there; /usr/sbin counts even where PATH lacks it."""
    if name.startswith("/"):
        return Path(name).exists()
    return bool(shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"))


def ensure(wanted: dict[str, str]) -> None:
    """Install the missing packages (as root on Debian), or raise SystemExit naming each one."""
    missing = {name: package for name, package in wanted.items() if not present(name)}
    if not missing:
        return
    packages = sorted(set(missing.values()))
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing {' '.join(packages)}", file=sys.stderr, flush=True)
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], env=env, check=False, stdout=subprocess.DEVNULL)
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
        subprocess.run(command, env=env, check=False, stdout=subprocess.DEVNULL)
    still = [f"{name} (Debian package {package})" for name, package in missing.items() if not present(name)]
    if still:
        raise SystemExit("missing: " + ", ".join(still) + ". Install them, or run as root on Debian 12.")


def ensure_node() -> None:
    """Check what a node on this very machine needs: root, Linux, and the packages."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise SystemExit(
            "missing: root on Linux, for a node on this machine. Set KUBECONFIG to use a cluster of yours."
        )
    ensure(PACKAGES)
