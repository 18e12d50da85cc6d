"""Comparing manifests: digests, containment, merge patches. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

_encode = msgspec.json.Encoder(order="deterministic").encode

_QUANTITY = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+))(?:(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|n|u)|[eE]([+-]?\d+))?$")
_UNITS = {
    "n": "1e-9",
    "u": "1e-6",
    "m": "1e-3",
    "": "1",
    "k": "1e3",
    "M": "1e6",
    "G": "1e9",
    "T": "1e12",
    "P": "1e15",
    "E": "1e18",
}
_BINARY: dict[str, int] = {unit: 1024**power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)}
_WHOLE = frozenset({"selector", "podSelector", "namespaceSelector"})
"""Maps that are one value to server-side apply, and get no defaults: whatever is added to them means something else."""
_EXACT = frozenset({"rules", "backendRefs", "matches", "parentRefs", "hostnames", "ingress", "from"})
"""Lists that are one value to server-side apply: their entries get defaults, but no other entry is somebody else's."""
_KEYS = ("name", "containerPort", "port", "mountPath", "uid", "type", "ip")


def digest(manifest: Mapping[str, Any]) -> str:
    """Short digest of a manifest; the order of keys does not matter."""
    return hashlib.sha256(_encode(manifest)).hexdigest()[:16]


@lru_cache(4096)
def quantity(text: str) -> Decimal | None:
    """The number that a Kubernetes quantity says, or None if the text is none."""
    match = _QUANTITY.match(text)
    if match is None:
        return None
    number, unit, exponent = match.groups()
    if unit in _BINARY:
        return Decimal(number) * Decimal(_BINARY[unit])
    return Decimal(number) * (Decimal(f"1e{exponent}") if exponent else Decimal(_UNITS[unit or ""]))


def holds(wanted: Any, live: Any) -> bool:
    """Whether `live` contains every field of `wanted`: more fields and list entries than wanted are another manager's or
    defaults, but for those that mean something else with more in them. Empty values equal absent ones, quantities compare by
    value, lists of one length entry by entry, else by their key."""
    if isinstance(wanted, dict):
        if not wanted:
            return live is None or isinstance(live, dict)
        return isinstance(live, dict) and all(_holds_member(key, value, live.get(key)) for key, value in wanted.items())
    if isinstance(wanted, (list, tuple)):
        return _holds_list(wanted, live)
    if wanted == live or (live is None and wanted in (None, "", 0, False)):
        return True
    return _same_quantity(wanted, live)


def _holds_member(key: str, wanted: Any, live: Any) -> bool:
    if key in _WHOLE and isinstance(wanted, dict):
        return bool(wanted == live or not (wanted or live))
    if key in _EXACT and isinstance(live, (list, tuple)) and len(wanted) != len(live):
        return False
    return holds(wanted, live)


def _holds_list(wanted: Sequence[Any], live: Any) -> bool:
    if not wanted:
        return not live
    if not isinstance(live, (list, tuple)):
        return False
    if len(wanted) == len(live) and all(holds(mine, theirs) for mine, theirs in zip(wanted, live, strict=True)):
        return True
    key = next((key for key in _KEYS if all(isinstance(item, dict) and key in item for item in wanted)), None)
    if key is None:
        return not any(isinstance(item, dict) for item in wanted) and list(wanted) == list(live)
    by_key = {item.get(key): item for item in live if isinstance(item, dict)}
    return all(holds(item, by_key.get(item[key])) for item in wanted)


def _same_quantity(wanted: Any, live: Any) -> bool:
    if not isinstance(wanted, (str, int, float)) or not isinstance(live, (str, int, float)) or isinstance(wanted, bool):
        return False
    mine, theirs = quantity(str(wanted)), quantity(str(live))
    return mine is not None and mine == theirs


def merge_diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The smallest JSON merge patch from `old` to `new`: nulls for removed keys, lists whole; empty = equal."""
    patch: dict[str, Any] = {key: None for key in old if key not in new or new[key] is None}
    for key, value in new.items():
        before = old.get(key)
        if value is None or value == before:
            continue
        if isinstance(value, dict) and isinstance(before, dict):
            inner = merge_diff(before, value)
            if inner:
                patch[key] = inner
        else:
            patch[key] = value
    return patch
