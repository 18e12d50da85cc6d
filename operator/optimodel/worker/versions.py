"""Versions of the packages that this image has."""

from __future__ import annotations

from importlib import metadata

_BUILDS = {"onnxruntime": ("onnxruntime-gpu",)}
"""Packages under whose names the same library comes built for other devices."""


def version(package: str) -> str:
    """The installed version, with the name of the build where that is another. Raises `PackageNotFoundError`."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        for build in _BUILDS.get(package, ()):
            try:
                return f"{metadata.version(build)} ({build})"
            except metadata.PackageNotFoundError:
                continue
        raise
