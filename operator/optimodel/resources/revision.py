"""Builder of the ModelRevision."""

from __future__ import annotations

from typing import Any

from ..api import names
from ..api.spec import ModelRevisionSpec
from ..api.struct import plain
from .pod import metadata


def model_revision(namespace: str, spec: ModelRevisionSpec, owner: list[dict[str, Any]]) -> dict[str, Any]:
    """The immutable record of a version."""
    labels = names.labels(spec.model, "revision", spec.hash)
    return {
        "apiVersion": names.API_VERSION,
        "kind": "ModelRevision",
        "metadata": metadata(names.revision(spec.model, spec.hash), namespace, labels, owner),
        "spec": plain(spec),
    }
