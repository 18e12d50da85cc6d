"""Everything observed, as the API server told it: the only thing that a reconcile reads.

Bodies are kept packed (JSON bytes) and unpacked on demand: a thousand settled objects cost what their text costs.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import msgspec

Obj = dict[str, Any]
List = list  # within Store the name means the method
Name = tuple[str, str, str]
"""Kind, namespace ("" = cluster-scoped), name."""
Index = Callable[[str, Obj], Iterable[Hashable]]
"""Kind and body -> the values under which the object is found."""

_DROPPED_ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
_UNPACKED = 256
_GRAVES = 20_000

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Obj).decode


class _Entry:
    __slots__ = ("packed", "uid", "values", "version")

    def __init__(self, uid: str, version: int, packed: bytes, values: tuple[tuple[str, Hashable], ...]) -> None:
        self.uid, self.version, self.packed, self.values = uid, version, packed, values


def version_of(obj: Mapping[str, Any]) -> int:
    """resourceVersion as a number; 0 where there is none."""
    return int(obj["metadata"].get("resourceVersion") or 0)


def name_of(kind: str, obj: Mapping[str, Any]) -> Name:
    """Where an object is kept."""
    meta = obj["metadata"]
    return kind, meta.get("namespace", ""), meta["name"]


class Store:
    """Raw objects by kind, namespace and name; the newest version of each, never one that is gone. Returned bodies are shared: read only.

    `trims` drop what nobody reads, per kind; `indexes` are named functions by which `by` finds objects.
    """

    def __init__(
        self, indexes: Mapping[str, Index] | None = None, trims: Mapping[str, Callable[[Obj], Obj]] | None = None
    ) -> None:
        self._indexes = dict(indexes or {})
        self._trims = dict(trims or {})
        self._kinds: dict[str, dict[tuple[str, str], _Entry]] = {}
        self._found: dict[tuple[str, Hashable], dict[Name, None]] = {}
        self._graves: OrderedDict[str, float] = OrderedDict()
        self._unpacked: OrderedDict[Name, tuple[int, Obj]] = OrderedDict()
        self._facts: dict[tuple[str, str], Any] = {}

    def put(self, kind: str, obj: Mapping[str, Any]) -> bool:
        """Keep `obj`; False if it is no newer than what is kept, or than what its uid was buried at."""
        meta = obj["metadata"]
        uid, version, where = meta.get("uid", ""), version_of(obj), (meta.get("namespace", ""), meta["name"])
        old = self._kinds.setdefault(kind, {}).get(where)
        if version <= self._graves.get(uid, 0) or (old is not None and not _newer(old, uid, version)):
            return False
        if old is not None:
            self._unlink(kind, where, old)
            if old.uid != uid:
                self._bury(old.uid)
        trimmed = self._trim(kind, obj)
        values = tuple((index, value) for index, fn in self._indexes.items() for value in fn(kind, trimmed))
        self._kinds[kind][where] = _Entry(uid, version, _encode(trimmed), values)
        for at in values:
            self._found.setdefault(at, {})[(kind, *where)] = None
        return True

    def remove(self, kind: str, obj: Mapping[str, Any], *, forever: bool = True) -> bool:
        """Forget `obj`; False if it was not kept. A successor of the same name stays.

        `forever` never takes the uid again. Otherwise a newer version brings it back: an object that lost the label we
        watch by looks deleted, and is not.
        """
        meta = obj["metadata"]
        where, uid = (meta.get("namespace", ""), meta["name"]), meta.get("uid", "")
        old = self._kinds.get(kind, {}).get(where)
        self._bury(uid or (old.uid if old else ""), math.inf if forever else version_of(obj))
        if old is None or (uid and old.uid != uid):
            return False
        self._unlink(kind, where, old)
        del self._kinds[kind][where]
        return True

    def get(self, kind: str, namespace: str, name: str) -> Obj | None:
        """The newest known body, or None."""
        entry = self._kinds.get(kind, {}).get((namespace, name))
        return None if entry is None else self._unpack((kind, namespace, name), entry)

    def list(self, kind: str, namespace: str | None = None) -> List[Obj]:
        """All bodies of a kind, in a namespace or everywhere, by name."""
        kept = self._kinds.get(kind, {})
        return [
            self._unpack((kind, *where), kept[where])
            for where in sorted(kept)
            if namespace is None or where[0] == namespace
        ]

    def names(self, kind: str) -> List[tuple[str, str, str, int]]:
        """Namespace, name, uid and version of every object of a kind, without unpacking."""
        return [(ns, name, entry.uid, entry.version) for (ns, name), entry in self._kinds.get(kind, {}).items()]

    def version(self, kind: str, namespace: str, name: str) -> int:
        """resourceVersion of the kept body; 0 where there is none."""
        entry = self._kinds.get(kind, {}).get((namespace, name))
        return entry.version if entry else 0

    def by(self, index: str, value: Hashable) -> List[Name]:
        """Names of the objects that index `index` puts under `value`."""
        return list(self._found.get((index, value), ()))

    def owned(self, kind: str, namespace: str, owner: str) -> List[Obj]:
        """Bodies of a kind in a namespace under `owner` of the index "owner", by name."""
        names = sorted(at for at in self.by("owner", (kind, namespace, owner)))
        return [self._unpack(at, self._kinds[at[0]][at[1:]]) for at in names]

    def set_fact(self, kind: str, uid: str, value: Any) -> bool:
        """Keep what was learnt beside the API server (a probe, a progress page); None forgets. True if it changed."""
        if value is None:
            return self._facts.pop((kind, uid), None) is not None
        if self._facts.get((kind, uid)) == value:
            return False
        self._facts[kind, uid] = value
        return True

    def fact(self, kind: str, uid: str) -> Any:
        """What was learnt, or None."""
        return self._facts.get((kind, uid))

    def gone(self, uid: str, version: int) -> bool:
        """Whether this version of an object was removed, and would not be taken."""
        return version <= self._graves.get(uid, 0)

    def __len__(self) -> int:
        return sum(map(len, self._kinds.values()))

    def _trim(self, kind: str, obj: Mapping[str, Any]) -> Obj:
        meta = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
        if _DROPPED_ANNOTATION in (meta.get("annotations") or {}):
            meta["annotations"] = {k: v for k, v in meta["annotations"].items() if k != _DROPPED_ANNOTATION}
        trimmed = {**obj, "metadata": meta}
        return self._trims[kind](trimmed) if kind in self._trims else trimmed

    def _unpack(self, at: Name, entry: _Entry) -> Obj:
        known = self._unpacked.get(at)
        if known is not None and known[0] == entry.version:
            return known[1]
        body = _decode(entry.packed)
        self._unpacked[at] = (entry.version, body)
        if len(self._unpacked) > _UNPACKED:
            self._unpacked.popitem(last=False)
        return body

    def _unlink(self, kind: str, where: tuple[str, str], entry: _Entry) -> None:
        self._unpacked.pop((kind, *where), None)
        for at in entry.values:
            found = self._found[at]
            found.pop((kind, *where), None)
            if not found:
                del self._found[at]

    def _bury(self, uid: str, version: float = math.inf) -> None:
        if uid:
            self._graves[uid] = max(version, self._graves.get(uid, 0))
            if len(self._graves) > _GRAVES:
                self._graves.popitem(last=False)


def _newer(old: _Entry, uid: str, version: int) -> bool:
    return version > old.version
