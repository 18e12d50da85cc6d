"""Build the images, by Docker where its daemon runs and by buildah elsewhere, and give them to the cluster.

``python3 -m devcluster.images [NAME…]`` builds and loads; ``python3 -m devcluster.images refs`` prints references as shell
assignments. A tag is a hash of everything that goes into the image, so an unchanged image is never built, pushed or pulled again.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from devcluster import addons, cluster, kind, node, prerequisites
from devcluster.paths import CACHE, REPO, digest
from devcluster.sites import locked, site

FOLDER = REPO / "images"
PACKAGE = REPO / "operator" / "optimodel"
REQUIREMENTS = {"operator": "base", "worker": "worker", "triton": "triton"}
SOURCES = {"operator": PACKAGE, "worker": PACKAGE, "triton": PACKAGE / "backends" / "onnxruntime"}
DEBIAN = ("python3", "libpython3.11", "ca-certificates")
PREPULLED = ("worker", "triton")


def repository() -> str:
    """Return where images go: OPTIMODEL_REGISTRY (``host[:port]/prefix``), or the registry on loopback."""
    return os.environ.get("OPTIMODEL_REGISTRY") or f"{node.REGISTRY}/optimodel"


def reference(name: str) -> str:
    """Return the full reference of an image: base, operator-deps, operator, worker-deps, worker, triton-deps or triton."""
    return f"{repository()}/{name}:{key(name)}"


def key(name: str) -> str:
    """Return the tag of an image: a hash of its Dockerfile, its parent and the files that it copies."""
    if name == "base":
        return digest(FOLDER / "base.Dockerfile", " ".join(DEBIAN))
    if name.endswith("-deps"):
        lock = REPO / "requirements" / f"{REQUIREMENTS[name.removesuffix('-deps')]}.txt"
        return digest(FOLDER / "deps.Dockerfile", key("base"), lock)
    files = [p for p in sorted(SOURCES[name].rglob("*")) if p.is_file() and "__pycache__" not in p.parts]
    parts = [part for p in files for part in (str(p.relative_to(REPO)), p)]
    return digest(FOLDER / f"{name}.Dockerfile", key(f"{name}-deps"), *parts)


@functools.cache
def engine() -> list[str]:
    """Return the image builder's command: Docker where its daemon answers, else buildah with storage of our own."""
    if shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True).returncode == 0:
        return ["docker"]
    prerequisites.ensure(prerequisites.BUILDERS)
    return ["buildah", "--root", str(CACHE / "images"), "--runroot", str(CACHE / "images-run")]


def builds_with_buildah() -> bool:
    """Say which of the two builders it is."""
    return engine()[0] == "buildah"


def exists(image: str) -> bool:
    """Say whether the builder has an image."""
    command = [*engine(), "inspect", "--type", "image", image]
    return subprocess.run(command, capture_output=True).returncode == 0


def build(name: str) -> str:
    """Build an image and what it stands on, unless they are there; return its reference."""
    image = reference(name)
    with locked(f"image-{name}"):
        return image if exists(image) else build_missing(name, image)


def build_missing(name: str, image: str) -> str:
    """Build an image after its parent."""
    if name == "base":
        arguments = {"DEBIAN": debian()} if builds_with_buildah() else {}
        return run_build(name, image, arguments, {})
    if name.endswith("-deps"):
        folder = site(REQUIREMENTS[name.removesuffix("-deps")])
        return run_build("deps", image, {"BASE": build("base")}, {"site": folder})
    return run_build(name, image, {"DEPS": build(f"{name}-deps")}, {})


def run_build(dockerfile: str, image: str, arguments: dict[str, str], contexts: dict[str, Path]) -> str:
    """Run the builder on one Dockerfile with the repository as its context."""
    begun = time.monotonic()
    command = [
        *engine(),
        *(["bud", "--isolation", "chroot", "--network", "host"] if builds_with_buildah() else ["build"]),
    ]
    command += ["--quiet", "--tag", image, "--file", str(FOLDER / f"{dockerfile}.Dockerfile")]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    for name, folder in contexts.items():
        command += ["--build-context", f"{name}={folder}"]
    subprocess.run([*command, str(REPO)], check=True, stdout=subprocess.DEVNULL)
    cluster.say(f"built {image} in {time.monotonic() - begun:.1f} s")
    return image


def debian() -> str:
    """Make the image that the base stands on from Debian packages alone, and return its name."""
    image = f"localhost/optimodel-debian:{digest(' '.join(DEBIAN))}"
    if not exists(image):
        tar = CACHE / "debian.tar"
        include = f"--include={','.join(DEBIAN)}"
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", include, "bookworm", str(tar)], check=True)
        created = subprocess.run(
            [*engine(), "from", "scratch"], check=True, capture_output=True, text=True
        ).stdout.strip()
        for step in (
            ["add", "--quiet", created, str(tar), "/"],
            ["commit", "--quiet", created, image],
            ["rm", created],
        ):
            subprocess.run([*engine(), *step], check=True, stdout=subprocess.DEVNULL)
        tar.unlink()
    return image


def in_registry(image: str) -> bool:
    """Say whether the registry on loopback has an image."""
    path, _, tag = image.partition("/")[2].rpartition(":")
    request = urllib.request.Request(f"http://{node.REGISTRY}/v2/{path}/manifests/{tag}", method="HEAD")
    request.add_header("Accept", "application/vnd.oci.image.manifest.v1+json")
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return False


def push(image: str) -> None:
    """Give an image to the registry on loopback, to kind's nodes, or to the registry that the user names."""
    if cluster.mode() == "kind":
        subprocess.run(["kind", "load", "docker-image", "--name", kind.NAME, image], check=True)
        return
    if cluster.mode() == "node" and in_registry(image):
        return
    begun = time.monotonic()
    local = ["--tls-verify=false", "--disable-compression"] if cluster.mode() == "node" else []
    options = ["--quiet", *local] if builds_with_buildah() else ["--quiet"]
    subprocess.run([*engine(), "push", *options, image], check=True, stdout=subprocess.DEVNULL)
    cluster.say(f"pushed {image} in {time.monotonic() - begun:.1f} s")


def pull(name: str, image: str) -> None:
    """Have the cluster pull a large image now, by a pod that only prints Python's version."""
    begun, pod = time.monotonic(), f"pull-{name}-{image.rpartition(':')[2]}"
    config, alone = cluster.kubeconfig(), ("--ignore-not-found", "--wait=false")
    if image in addons.kubectl(config, "get", "nodes", "-o", "jsonpath={.items[*].status.images[*].names}"):
        return
    run = ("run", pod, f"--image={image}", "--restart=Never", "--command", "--", "python3", "--version")
    addons.kubectl(config, "delete", "pod", pod, "--ignore-not-found")
    addons.kubectl(config, *run)
    addons.kubectl(config, "wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{pod}", "--timeout=600s")
    addons.kubectl(config, "delete", "pod", pod, *alone)
    cluster.say(f"pulled {image} in {time.monotonic() - begun:.1f} s")


def load(names: list[str]) -> None:
    """Build images and give them to the cluster; a directory of code that is not there yet is passed over."""
    for name in names:
        if not SOURCES[name].is_dir():
            cluster.say(f"{name}: nothing to build yet")
            continue
        image = build(name)
        push(image)
        if name in PREPULLED:
            pull(name, image)


def refs() -> None:
    """Print the references as shell assignments."""
    for name in REQUIREMENTS:
        print(f"export OPTIMODEL_{name.upper()}_IMAGE={reference(name)}")


if __name__ == "__main__":
    if sys.argv[1:] == ["refs"]:
        refs()
    elif sys.argv[1:2] == ["build"]:
        for wanted in sys.argv[2:] or REQUIREMENTS:
            print(build(wanted))
    else:
        load(sys.argv[1:] or list(REQUIREMENTS))
