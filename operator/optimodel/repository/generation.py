"""The config of the one model that writes text: the graph runs in the process of its loop, so there is no ensemble."""

from __future__ import annotations

from typing import Any

OPTIONAL = {
    "MAX_TOKENS": ("TYPE_INT32", 1),
    "TEMPERATURE": ("TYPE_FP32", 1),
    "TOP_P": ("TYPE_FP32", 1),
    "SEED": ("TYPE_INT64", 1),
    "STOP": ("TYPE_STRING", -1),
    "CHAT": ("TYPE_BOOL", 1),
}
"""Inputs that a request may leave out (`backends.generation.Sampling`): type, and values for each text."""
PROBE = [{"name": "MAX_TOKENS", "shape": [1, 1], "datatype": "INT32", "data": [4]}]
"""What the readiness probe asks for beside its text: it comes every few seconds."""


def inputs() -> list[dict[str, Any]]:
    """The optional inputs of the public model."""
    return [
        {"name": name, "dataType": kind, "dims": [values], "optional": True}
        for name, (kind, values) in OPTIONAL.items()
    ]
