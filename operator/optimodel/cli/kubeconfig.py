"""What the command line takes from the kubeconfig itself: the present context and its namespace."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ..errors import ApiError

_LISTS = {"clusters": "cluster", "contexts": "context", "users": "user"}


class Present(NamedTuple):
    """Where the command line is by default. `context` is None where no file names one."""

    context: str | None
    namespace: str


def present() -> Present:
    """The present context over all files of `KUBECONFIG`, as kubectl merges them: the first that sets a value wins.
    Raises `ApiError` for a file that is no kubeconfig."""
    files = [_read(path) for path in _paths() if os.path.exists(path)]
    context = next((c for f in files if (c := f.get("current-context"))), None)
    entries = (entry for f in files for entry in f.get("contexts") or ())
    found = next((entry.get("context") for entry in entries if entry["name"] == context), None) or {}
    return Present(context, str(found.get("namespace") or "default"))


def _paths() -> list[Path]:
    named = [Path(os.path.expanduser(part)) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return named or [Path.home() / ".kube" / "config"]


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as stream:
            config = yaml.safe_load(stream)
    except OSError as error:
        raise _refusal(path, error.strerror or str(error)) from error
    except (yaml.YAMLError, ValueError) as error:
        raise _refusal(path, "not YAML: " + " ".join(str(error).split())) from error
    for wrong in _wrong(config):
        raise _refusal(path, wrong)
    return dict(config)


def _wrong(config: Any) -> Iterator[str]:
    """What keeps this from being a kubeconfig. Values stay out of it: they may be secret."""
    if not isinstance(config, dict):
        yield "its top level must be a mapping"
        return
    for plural, singular in _LISTS.items():
        entries = config.get(plural) or []
        if not isinstance(entries, list):
            yield f"{plural} must be a list"
            return
        for i, entry in enumerate(entries):
            if not isinstance(entry, dict) or "name" not in entry:
                yield f"{plural}[{i}] must be a mapping with a name"
            elif not isinstance(entry.get(singular) or {}, dict):
                yield f"{plural}[{i}].{singular} must be a mapping"


def _refusal(path: Path, why: str) -> ApiError:
    return ApiError(f"kubeconfig {path}: {why}. Mend it, or set KUBECONFIG to another")
