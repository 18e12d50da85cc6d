"""Files on a claim, which others write."""

from __future__ import annotations

from pathlib import Path

from .errors import Failure


def inside(path: Path, mount: Path) -> Path:
    """The path itself, unless a link leads out of the claim at `mount`, or to itself. Raises `Failure`."""
    try:
        stays = path.resolve().is_relative_to(mount.resolve())
    except RuntimeError:
        stays = False
    if not stays:
        name = path.relative_to(mount).as_posix()
        raise Failure("UnsafePath", f"{name!r} is a link that leaves the claim. Put the file itself there.")
    return path
