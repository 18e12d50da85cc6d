"""Python environments installed once per lock file and shared by every checkout.

``python3 -m devcluster.sites venv`` makes the development environment and links ``.venv`` to it;
``python3 -m devcluster.sites worker`` prints the folder of the worker's requirements, for ``PYTHONPATH``.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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

    The host's tests put it on ``PYTHONPATH`` and the image copies it, so its gigabytes move once. It is compiled here,
    because a container with a read-only root would compile it again at every start.
    """
    lock = REPO / "requirements" / f"{name}.txt"
    target = CACHE / f"{name}-site" / digest(lock)
    uv = venv() / "bin" / "uv"
    with locked(f"{name}-site"):
        if target.is_dir():
            return target
        partial = target.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        command = [str(uv), "pip", "install", "--quiet", "--no-cache", "--link-mode", "copy", "--require-hashes"]
        command += ["--python", interpreter(), "--target", str(partial), "-r", str(lock)]
        subprocess.run(command, check=True, env={"UV_SYSTEM_CERTS": "1", **os.environ})
        compiling = [interpreter(), "-m", "compileall", "-q", "-j", "2", "--invalidation-mode", "unchecked-hash"]
        subprocess.run([*compiling, str(partial)], check=False, stdout=subprocess.DEVNULL)
        partial.rename(target)
    return target


def main(arguments: list[str]) -> None:
    """Make the environment that is named first and print where it is."""
    name = arguments[0] if arguments else "venv"
    print(venv() if name == "venv" else site(name))


if __name__ == "__main__":
    main(sys.argv[1:])
