"""Bodies as text: what nobody reads is skipped while the text is read, managed fields above all, which are half of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict, cast

import msgspec

from ..machinery.store import Obj


class _Metadata(TypedDict, total=False):
    name: str
    namespace: str
    uid: str
    resourceVersion: str
    generation: int
    creationTimestamp: str | None
    deletionTimestamp: str
    labels: dict[str, str] | None
    annotations: dict[str, str] | None
    ownerReferences: list[dict[str, Any]]
    finalizers: list[str]


class _Body(TypedDict, total=False):
    """Of an object, and of the Status that may come instead."""

    apiVersion: str
    kind: str
    metadata: _Metadata
    spec: Any
    status: Any
    code: int
    message: str
    reason: str
    details: Any


class _WatchEvent(TypedDict):
    type: str
    object: _Body


body = cast(Callable[[bytes], Obj], msgspec.json.Decoder(_Body).decode)
"""JSON of an object to plain data. Raises `msgspec.DecodeError`."""

watch_event = cast(Callable[[str | bytes], Obj], msgspec.json.Decoder(_WatchEvent).decode)
"""A line of a watch to plain data. Raises `msgspec.DecodeError`."""
