"""The base of every API type."""

from __future__ import annotations

from typing import Any

import msgspec


class Struct(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, forbid_unknown_fields=False):
    """Base of every API type: immutable, camelCase on the wire, defaults left out when written."""


def plain(value: Struct) -> dict[str, Any]:
    """The value as the API server speaks it: dicts, lists, strings and numbers only."""
    return msgspec.json.decode(msgspec.json.encode(value), type=dict[str, Any])
