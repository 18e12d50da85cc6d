"""``python3 -m devcluster.cluster up|down|status|kubeconfig|env``: a Kubernetes cluster to develop and test on.

Which cluster, in this order: the one that OPTIMODEL_KUBECONFIG or KUBECONFIG points to; kind, where Docker runs;
otherwise a node on this very machine, built from pinned Go modules. OPTIMODEL_CLUSTER=given|kind|node overrides.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from devcluster import addons, binaries, kind, node, prerequisites
from devcluster.control import SERVICES
from devcluster.paths import CLUSTER, REPO
from devcluster.sites import locked

OWN = CLUSTER / "kubeconfig"


def given() -> Path | None:
    """Return the kubeconfig that the user points to, unless it is our own."""
    named = os.environ.get("OPTIMODEL_KUBECONFIG") or os.environ.get("KUBECONFIG") or ""
    first = named.split(os.pathsep)[0]
    return Path(first) if first and Path(first).absolute() not in (OWN, kind.KUBECONFIG) else None


def mode() -> str:
    """Return ``given``, ``kind`` or ``node``."""
    forced = os.environ.get("OPTIMODEL_CLUSTER")
    if forced:
        return forced
    if given():
        return "given"
    return "kind" if kind.usable() else "node"


def kubeconfig() -> Path:
    """Return the kubeconfig of the cluster in use."""
    found = {"given": given() or OWN, "kind": kind.KUBECONFIG}.get(mode(), OWN)
    return found.absolute()


def up() -> None:
    """Bring the cluster up; one that is up already is left as it is."""
    chosen = mode()
    if chosen == "given":
        inspect(kubeconfig())
    elif chosen == "kind":
        kind.up()
    else:
        node_up()
    print(f"export KUBECONFIG={kubeconfig()}")
    print(f"export PATH={programs()}:$PATH")


def programs() -> str:
    """Folders of kubectl, helm and kubectl-optimodel, as PATH has them."""
    return f"{binaries.binary('kubectl').parent}:{binaries.binary('helm').parent}:{REPO / 'hack' / 'bin'}"


def node_up() -> None:
    """Bring the node of this machine up."""
    prerequisites.ensure_node()
    with locked("cluster"):
        if node.running() and node.COMPLETE.exists():
            say("the node is already up")
            return
        binaries.build_all()
        begun = time.monotonic()
        if not node.running():
            node.start()
        say(f"node Ready after {time.monotonic() - begun:.1f} s")
        addons.install(OWN)
        addons.wait(OWN)
        node.COMPLETE.touch()
        say(f"DNS, metrics, storage class, gateway and S3 up after {time.monotonic() - begun:.1f} s")


def inspect(target: Path) -> None:
    """Say what a cluster of the user's own offers; nothing is installed in it."""
    say(addons.kubectl(target, "version").strip())
    for need in ("httproutes.gateway.networking.k8s.io", "gateways.gateway.networking.k8s.io"):
        command = [str(binaries.binary("kubectl")), f"--kubeconfig={target}", "get", "crd", need]
        found = subprocess.run(command, capture_output=True).returncode == 0
        say(f"{need}: {'there' if found else 'missing (install the Gateway API and a controller of it)'}")


def down() -> None:
    """Take down the cluster that ``up`` made; a cluster of the user's own is not touched."""
    chosen = mode()
    if chosen == "kind":
        kind.down()
    if chosen == "node":
        with locked("cluster"):
            node.stop()


def purge() -> None:
    """Take the node down and remove its images and state too; binaries stay."""
    down()
    if mode() != "given":
        shutil.rmtree(CLUSTER, ignore_errors=True)


def status() -> None:
    """Print each process of the node, or what kubectl says of another cluster."""
    if mode() == "node":
        for name in node.ORDER:
            say(f"{name:26} {node.process(name).pid or 'stopped'}")
        say(f"{'node':26} {'Ready' if node.running() else 'not Ready'}")
    else:
        say(addons.kubectl(kubeconfig(), "get", "nodes"))


def env() -> None:
    """Print what tests and people need to reach the cluster, as shell assignments."""
    print(f"export KUBECONFIG={kubeconfig()}")
    print(f"export PATH={programs()}:$PATH")
    print(f"export OPTIMODEL_GATEWAY={addons.GATEWAY}")
    print(f"export OPTIMODEL_S3={addons.S3}")
    print("export AWS_ACCESS_KEY_ID=optimodel AWS_SECRET_ACCESS_KEY=optimodel-dev AWS_REGION=us-east-1")
    print(f"export OPTIMODEL_AUDIT_LOG={node.CONTROL.audit_log}")
    print(f"export NO_PROXY={SERVICES},127.0.0.1,localhost")


def say(text: str) -> None:
    """Print progress where it does not mix with what scripts read."""
    print(text, file=sys.stderr, flush=True)


def main(arguments: list[str]) -> None:
    """Run one command by name."""
    commands = {"up": up, "down": down, "purge": purge, "status": status, "env": env}
    if arguments == ["kubeconfig"]:
        print(kubeconfig())
    elif len(arguments) == 1 and arguments[0] in commands:
        commands[arguments[0]]()
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
