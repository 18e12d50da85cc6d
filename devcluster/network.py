"""Traces that a node leaves in the kernel: mounts, network namespaces, interfaces, packet filter chains, cgroups."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

NODE_IP = "10.244.255.1"
POD_SUBNET = "10.244.0.0/24"
BRIDGE = "optimodel0"
NETWORK = "optimodel"
CNI = Path("/var/lib/cni")
CHAIN = re.compile(r"^:(KUBE-[A-Z0-9-]+|CNI-[0-9a-f]+) ")


def run(*command: str, text: str | None = None) -> str:
    """Run a command and return its output; failure is no error here, since the thing may be gone already."""
    program = shutil.which(command[0], path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        return ""
    return subprocess.run([program, *command[1:]], input=text, capture_output=True, text=True, check=False).stdout


def network_config(folder: Path) -> dict[str, object]:
    """Return the CNI configuration: a bridge of our own with addresses kept under ``folder``."""
    ranges = [[{"subnet": POD_SUBNET}]]
    addresses = {"type": "host-local", "dataDir": str(folder), "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipMasq": True, "hairpinMode": True}
    return {"cniVersion": "0.4.0", "name": NETWORK, "plugins": [{**bridge, "ipam": addresses}]}


def prepare() -> None:
    """Give loopback the node's address and let packets be forwarded and seen by the packet filter."""
    run("ip", "address", "replace", f"{NODE_IP}/32", "dev", "lo")
    run("modprobe", "br_netfilter")
    for name in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"):
        setting = Path("/proc/sys", name)
        if setting.exists() and setting.read_text().strip() != "1":
            setting.write_text("1")


def unmount_below(folder: Path) -> None:
    """Unmount everything mounted at or below the folder, innermost first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    for point in sorted((p for p in points if p == str(folder) or p.startswith(f"{folder}/")), key=len, reverse=True):
        run("umount", "--lazy", point)


def remove_namespaces() -> None:
    """Remove the network namespaces of our pods, named in the results that the CNI library keeps."""
    for result in (CNI / "results").glob(f"{NETWORK}-*"):
        try:
            entry = json.loads(result.read_text())
            interfaces, container = entry["result"]["interfaces"], entry["containerId"]
        except (ValueError, KeyError):
            interfaces, container = [], "unknown"
        for path in {interface.get("sandbox") for interface in interfaces} - {None, ""}:
            run("umount", "--lazy", path)
            Path(path).unlink(missing_ok=True)
        (CNI / "results" / f"cni-loopback-{container}-lo").unlink(missing_ok=True)
        result.unlink(missing_ok=True)
    shutil.rmtree(CNI / "networks" / NETWORK, ignore_errors=True)


def remove_chains() -> None:
    """Remove kube-proxy's and kubelet's chains, our CNI chains, and the rules that lead there."""
    for family in ("iptables", "ip6tables"):
        table = ""
        edits: dict[str, list[str]] = {}
        sets: dict[str, list[str]] = {}
        for line in run(f"{family}-save").splitlines():
            if line.startswith("*"):
                table = line
                edits[table], sets[table] = [], ours(family, table)
            elif line.startswith("-A ") and leads_to(line, sets[table]):
                edits[table].append(line.replace("-A ", "-D ", 1))
        for table, chains in sets.items():
            script = [table, *(f":{c} - [0:0]" for c in chains), *edits[table], *(f"-X {c}" for c in chains), "COMMIT"]
            if chains:
                run(f"{family}-restore", "--noflush", text="\n".join(script) + "\n")


def ours(family: str, table: str) -> list[str]:
    """Return the chains of a table that belong to this cluster."""
    lines = run(f"{family}-save", "-t", table.lstrip("*")).splitlines()
    mine = f'name: \\"{NETWORK}\\"'
    tagged = {word for line in lines if mine in line for word in line.split() if word.startswith("CNI-")}
    found = [match.group(1) for match in map(CHAIN.match, lines) if match]
    return [chain for chain in found if chain.startswith("KUBE-") or chain in tagged]


def leads_to(rule: str, chains: list[str]) -> bool:
    """Say whether a rule outside the chains jumps into one of them."""
    words = rule.split()
    return words[1] not in chains and "-j" in words and words[words.index("-j") + 1] in chains


def remove_links() -> None:
    """Remove the bridge and the node's address."""
    run("ip", "link", "delete", BRIDGE)
    run("ip", "link", "delete", "kube-ipvs0")
    run("ip", "address", "delete", f"{NODE_IP}/32", "dev", "lo")


def remove_cgroups() -> None:
    """Remove the empty control groups that kubelet made for pods."""
    for top in (*Path("/sys/fs/cgroup").glob("*/kubepods"), Path("/sys/fs/cgroup/kubepods")):
        for folder, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def remove_everything(folder: Path) -> None:
    """Remove every trace of a node whose processes are gone and whose files lie in ``folder``."""
    unmount_below(folder)
    remove_namespaces()
    remove_links()
    remove_chains()
    remove_cgroups()
