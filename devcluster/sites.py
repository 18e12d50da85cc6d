"""Python environments installed once per lock file and shared by every checkout.

``python3 -m devcluster.sites venv`` makes the development environment and links ``.venv`` to it;
``python3 -m devcluster.sites worker`` prints the folder of the worker's requirements, for ``PYTHONPATH``; so does
``python3 -m devcluster.sites bench-olive`` for a tool that the worker is compared with.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import Distribution, distributions
from importlib.util import cache_from_source
from pathlib import Path

from devcluster.paths import CACHE, REPO, digest

WANTED = (3, 11)


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the machine-wide lock ``name``, so that two runs never install the same thing at once."""
    folder = CACHE / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / name, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def interpreter() -> str:
    """Return a Python 3.11 (the images' version), or raise ``SystemExit`` saying what to install."""
    for name in (sys.executable, "python3.11", "/usr/bin/python3.11"):
        found = shutil.which(name)
        if not found:
            continue
        probe = [found, "-c", "import sys, venv, ensurepip; print(*sys.version_info[:2])"]
        answer = subprocess.run(probe, capture_output=True, text=True)
        if answer.stdout.split() == [str(part) for part in WANTED]:
            return found
    raise SystemExit("missing: Python 3.11 with venv (the version that the images and the locks use)")


def venv() -> Path:
    """Install ``requirements/dev.txt`` into a virtual environment, link ``.venv`` to it, and return its path."""
    lock = REPO / "requirements" / "dev.txt"
    target = CACHE / "venv" / digest(lock)
    with locked("venv"):
        if not (target / ".done").exists():
            shutil.rmtree(target, ignore_errors=True)
            subprocess.run([interpreter(), "-m", "venv", str(target)], check=True)
            pip = [str(target / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-cache-dir"]
            subprocess.run([*pip, "--require-hashes", "-r", str(lock)], check=True)
            (target / ".done").touch()
        link = REPO / ".venv"
        if not link.is_symlink() or os.readlink(link) != str(target):
            link.unlink(missing_ok=True)
            link.symlink_to(target)
    return target


def site(name: str) -> Path:
    """Install ``requirements/NAME.txt`` into a folder of its own and return it.

    The host's tests put it on ``PYTHONPATH`` and the image copies it, so its gigabytes move once.
    """
    lock = _lock(name)
    target = CACHE / f"{name}-site" / digest(lock)
    with locked(f"{name}-site"):
        if not target.is_dir():
            _install(lock, target.with_suffix(".partial")).rename(target)
    return target


def beside(name: str, other: str = "worker") -> Path:
    """As `site`, but what the site of `other` has in the same version is linked from there, and takes no room twice."""
    base = site(other)
    target = CACHE / f"{name}-site" / digest(_lock(name), _lock(other))
    with locked(f"{name}-site"):
        if not target.is_dir():
            own, shared = divided(_lock(name).read_text(), _lock(other).read_text())
            folder = target.with_suffix(".partial")
            rest = target.with_suffix(".txt")
            rest.parent.mkdir(parents=True, exist_ok=True)
            rest.write_text(own)
            _install(rest, folder, "--no-deps")
            rest.unlink()
            for found in distributions(path=[str(base)]):
                if _normal(found.name) in shared:
                    _link(found, folder)
            folder.rename(target)
    return target


def divided(lock: str, other: str) -> tuple[str, set[str]]:
    """The requirements of a lock that the other lacks or has in another version, and the names of the rest."""
    pinned = re.compile(r"^([\w.-]+)==(\S+)")
    known = {match.groups() for match in map(pinned.match, other.splitlines()) if match}
    own, shared = [], set()
    for block in re.split(r"\n(?=\S)", lock):
        match = pinned.match(block)
        if match and match.groups() in known:
            shared.add(_normal(match[1]))
        else:
            own.append(block)
    return "\n".join(own), shared


def _lock(name: str) -> Path:
    return REPO / "requirements" / f"{name}.txt"


def _normal(name: str) -> str:
    """A package's name as an index compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _install(lock: Path, folder: Path, *options: str) -> Path:
    """What the lock says, compiled here, because a container with a read-only root would compile it again at every start."""
    uv = venv() / "bin" / "uv"
    shutil.rmtree(folder, ignore_errors=True)
    command = [str(uv), "pip", "install", "--quiet", "--no-cache", "--link-mode", "copy", "--require-hashes", *options]
    command += ["--python", interpreter(), "--target", str(folder), "-r", str(lock)]
    subprocess.run(command, check=True, env={"UV_SYSTEM_CERTS": "1", **os.environ})
    compiling = [interpreter(), "-m", "compileall", "-q", "-j", "2", "--invalidation-mode", "unchecked-hash"]
    subprocess.run([*compiling, str(folder)], check=False, stdout=subprocess.DEVNULL)
    return folder


def _link(found: Distribution, folder: Path) -> None:
    """Hard links to a package's files, compiled ones too."""
    for file in found.files or ():
        source = Path(str(found.locate_file(file)))
        compiled = Path(cache_from_source(str(source))) if source.suffix == ".py" else source
        for each in {source, compiled}:
            place = folder / each.relative_to(str(found.locate_file("")))
            if each.exists() and not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                os.link(each, place)


def main(arguments: list[str]) -> None:
    """Make the environment that is named first and print where it is."""
    name = arguments[0] if arguments else "venv"
    made = venv if name == "venv" else partial(beside if name.startswith("bench-") else site, name)
    print(made())


if __name__ == "__main__":
    main(sys.argv[1:])
