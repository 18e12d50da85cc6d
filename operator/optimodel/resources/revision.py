"""Builder of the ModelRevision."""

from __future__ import annotations

from typing import Any

from ..api import names
from ..api.spec import ModelRevisionSpec
from ..api.struct import plain


def model_revision(namespace: str, spec: ModelRevisionSpec, owner: list[dict[str, Any]]) -> dict[str, Any]:
    """The immutable record of a version."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "ModelRevision",
        "metadata": {
            "name": names.revision(spec.model, spec.hash),
            "namespace": namespace,
            "labels": names.labels(spec.model, "revision", spec.hash),
            "ownerReferences": owner,
        },
        "spec": plain(spec),
    }
