"""The base of every API type."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

Decimal = Annotated[str, Meta(max_length=32)]
Name = Annotated[str, Meta(max_length=64)]
Digest = Annotated[str, Meta(max_length=80)]
Label = Annotated[str, Meta(max_length=128)]
Words = Annotated[str, Meta(max_length=1024)]
Number = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Size = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""Bounds of what a worker tells, as those of the status that takes it: its pod is the tenant's, and one value too large would
have the whole status refused. They hold where a document is read."""


class Struct(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, forbid_unknown_fields=False):
    """Base of every API type: immutable, camelCase on the wire, defaults left out when written."""


def plain(value: Struct) -> dict[str, Any]:
    """The value as the API server speaks it: dicts, lists, strings and numbers only."""
    return msgspec.json.decode(msgspec.json.encode(value), type=dict[str, Any])
