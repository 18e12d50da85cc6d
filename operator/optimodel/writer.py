"""Carries a Plan out, and writes nothing that is already so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from .api import names
from .differ import digest, holds, merge_diff
from .errors import ApiError, Conflict, Forbidden, Invalid, NotFound, Taken, Terminating
from .machinery.store import Obj, Store, version_of
from .plan.types import Manifest, Plan, Ref, Refused

log = logging.getLogger(__name__)

MODEL = "OptimizedModel"
TERMINATING = "Terminating"
"""Fact by namespace name: a write was refused because the namespace is going."""
REFUSED = "Refused"
"""Fact by the owner's uid: what the API server refused when its last plan was carried out, each a `Refused`."""
WORDS = 500
"""Characters of a refusal that are told."""
_REMEMBERED = 50_000


class Api(Protocol):
    """What the writer asks of the API server (`adapters.kube.Kube`)."""

    async def get(self, kind: str, namespace: str, name: str) -> Obj: ...

    async def apply(self, manifest: Manifest, force: bool = True, manager: str = names.FIELD_MANAGER) -> Obj: ...

    async def patch_status(self, kind: str, namespace: str, name: str, patch: Mapping[str, Any]) -> Obj: ...

    async def patch(self, kind: str, namespace: str, name: str, patch: Mapping[str, Any]) -> Obj: ...

    async def delete(
        self, kind: str, namespace: str, name: str, uid: str = "", propagation: str = "Background"
    ) -> Obj: ...


class Writer:
    """Plan -> writes. Every answer goes into the store, so the next reconcile sees what this one did.

    `record` takes an Event: object, type, reason, message. `wrote` is told the key when a plan changed something: the
    watch brings no news of it, so the next look must be asked for.
    """

    def __init__(
        self,
        api: Api,
        store: Store,
        record: Callable[[Obj, str, str, str], None],
        wrote: Callable[[tuple[str, str]], None] = lambda key: None,
    ) -> None:
        self._api, self._store, self._record, self._wrote = api, store, record, wrote
        self._settled: dict[tuple[str, str, str], tuple[int, str]] = {}
        self._stubborn: dict[str, tuple[int, str]] = {}
        self._written: dict[tuple[str, str], int] = {}
        self._changed: set[tuple[str, str]] = set()

    def behind(self, key: tuple[str, str]) -> bool:
        """Whether the store has an older version of the object than our own last write to it made."""
        return 0 < self._store.version(MODEL, *key) < self._written.get(key, 0)

    async def write(self, key: tuple[str, str], plan: Plan) -> None:
        """Finalizers to add, hand-overs, applies, revision status, status, routes, deletes, events, finalizers to remove, in this order.

        A refused apply does not keep the rest from being written; the first refusal is raised at the end.
        Raises `ApiError` and `NotLeading`.
        """
        owner = self._store.get(MODEL, *key)
        if owner is None:
            return
        self._changed.discard(key)
        refused = await self._execute(owner, plan)
        if key in self._changed:
            self._changed.discard(key)
            self._wrote(key)
        if refused:
            raise refused[0][1]

    async def _execute(self, owner: Obj, plan: Plan) -> list[tuple[Refused, ApiError]]:
        refused: list[tuple[Refused, ApiError]] = []
        if plan.finalizer:
            owner = await self._finalize(owner, True)
        for manifest in plan.handover:
            self._keep(manifest["kind"], await self._api.apply(manifest, manager=names.HANDOVER_MANAGER))
        unmade = {m["metadata"]["name"] for m in plan.apply if not await self._try_apply(m, owner, refused)}
        for name, status in sorted(plan.revision_status.items()):
            revision = self._store.get("ModelRevision", owner["metadata"]["namespace"], name)
            if revision is not None:
                await self._status(revision, status)
        if plan.status is not None:
            await self._status(self._current(owner), plan.status)
        for manifest in plan.routes:
            await self._try_apply(manifest, owner, refused)
        self._remember(owner, refused)
        for ref in plan.delete:
            await self._delete(ref)
        for event in plan.events:
            if event.of not in unmade:
                self._record(owner, event.type, event.reason, event.message)
        if plan.finalizer is False:
            await self._finalize(self._current(owner), False)
        return refused

    def _current(self, owner: Obj) -> Obj:
        meta = owner["metadata"]
        return self._store.get(owner["kind"], meta.get("namespace", ""), meta["name"]) or owner

    def _remember(self, owner: Obj, refused: list[tuple[Refused, ApiError]]) -> None:
        """Keep what was refused, which the next look tells; once it is over, the status has to take it back."""
        meta = owner["metadata"]
        if self._store.set_fact(REFUSED, meta["uid"], tuple(told for told, _ in refused) or None) and not refused:
            self._changed.add((meta["namespace"], meta["name"]))

    async def _try_apply(self, manifest: Manifest, owner: Obj, refused: list[tuple[Refused, ApiError]]) -> bool:
        """Apply, and keep what refuses it. Whether it is made."""
        kind, meta, asks = manifest["kind"], manifest["metadata"], owner["metadata"]
        namespace = meta.get("namespace", "")
        try:
            if await self._apply(manifest, asks["uid"]):
                self._store.set_fact(TERMINATING, namespace, None)
        except Terminating:
            if self._store.set_fact(TERMINATING, namespace, True):
                self._tell(namespace)
            return False
        except (Invalid, Forbidden, NotFound, Taken) as error:
            content, generation = isinstance(error, Invalid), asks.get("generation", 0)
            refused.append((Refused(kind, meta["name"], str(error)[:WORDS], content, generation), error))
            return False
        return True

    def _tell(self, namespace: str) -> None:
        """Its objects that are going wait for nothing any more."""
        for at, name, _uid, _version in self._store.names(MODEL):
            if at == namespace:
                self._wrote((at, name))

    async def _apply(self, manifest: Manifest, uid: str) -> bool:
        """One apply, unless the live object carries this digest and still holds every field of the manifest.
        Whether there was one."""
        kind, meta = manifest["kind"], manifest["metadata"]
        at = (kind, meta.get("namespace", ""), meta["name"])
        mark = digest(manifest)
        if len(self._settled) > _REMEMBERED:
            self._settled.clear()
        version = self._store.version(*at)
        if version and self._settled.get(at) == (version, mark):
            return False
        live = self._store.get(*at)
        if live is not None and self._is_settled(live, manifest, mark):
            self._settled[at] = (version, mark)
            return False
        if live is not None and live["metadata"].get("deletionTimestamp"):
            return False
        annotations = {**(meta.get("annotations") or {}), names.APPLIED: mark}
        answer = await self._send({**manifest, "metadata": {**meta, "annotations": annotations}}, live, uid)
        self._keep(kind, answer)
        if not holds(manifest, answer):
            log.warning("%s %s/%s does not keep what was applied", *at)
            self._stubborn[answer["metadata"]["uid"]] = (answer["metadata"].get("generation", 0), mark)
        self._settled[at] = (self._store.version(*at), mark)
        return True

    def _is_settled(self, live: Obj, manifest: Manifest, mark: str) -> bool:
        meta = live["metadata"]
        if (meta.get("annotations") or {}).get(names.APPLIED) != mark:
            return False
        return self._stubborn.get(meta["uid"]) == (meta.get("generation", 0), mark) or holds(manifest, live)

    async def _send(self, manifest: Manifest, live: Obj | None, uid: str) -> Obj:
        """Apply with force what is ours; take no field of an object that is not. A Job that is there is left as it is: what
        others changed since it was made, as Kueue does `suspend`, is theirs."""
        if live is not None:
            _check_model(live, manifest, uid)
            return await self._api.apply(manifest)
        try:
            return await self._api.apply(manifest, force=False)
        except Conflict as conflict:
            meta = manifest["metadata"]
            found = await self._api.get(manifest["kind"], meta.get("namespace", ""), meta["name"])
            owners = {owner.get("uid") for owner in found["metadata"].get("ownerReferences") or ()}
            if uid not in owners:
                raise Taken(
                    f"{manifest['kind']} {meta['name']} exists and does not belong to this object: delete or rename it ({conflict})"
                ) from conflict
            if manifest["kind"] == "Job":
                return found
            return await self._api.apply(manifest)

    async def _status(self, obj: Obj, status: Mapping[str, Any]) -> None:
        patch = merge_diff(obj.get("status") or {}, status)
        if not patch:
            return
        meta = obj["metadata"]
        body = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "status": patch}
        await self._patch(
            obj, lambda: self._api.patch_status(obj["kind"], meta.get("namespace", ""), meta["name"], body)
        )

    async def _finalize(self, obj: Obj, ours: bool) -> Obj:
        """Our finalizer added or removed; the others are those of the version that the patch is bound to."""
        meta = obj["metadata"]
        finalizers = [f for f in meta.get("finalizers") or () if f != names.FINALIZER] + [names.FINALIZER] * ours
        body = {"metadata": {"resourceVersion": meta["resourceVersion"], "finalizers": finalizers or None}}
        await self._patch(obj, lambda: self._api.patch(obj["kind"], meta.get("namespace", ""), meta["name"], body))
        return self._current(obj)

    async def _patch(self, obj: Obj, send: Callable[[], Any]) -> None:
        """A patch of what we read; when that was stale, the store is refreshed before the Conflict goes on."""
        kind, meta = obj["kind"], obj["metadata"]
        try:
            answer = await send()
        except NotFound:
            self._store.remove(kind, obj)
            return
        except Conflict:
            try:
                self._store.put(kind, await self._api.get(kind, meta.get("namespace", ""), meta["name"]))
            except NotFound:
                self._store.remove(kind, obj)
                return
            raise
        if answer["metadata"].get("deletionTimestamp") and not answer["metadata"].get("finalizers"):
            self._store.remove(kind, answer)
        else:
            self._keep(kind, answer)
            if kind == MODEL:
                self._written[meta["namespace"], meta["name"]] = version_of(answer)

    def _keep(self, kind: str, answer: Obj) -> None:
        if self._store.put(kind, answer):
            self._note(kind, answer)

    def _note(self, kind: str, obj: Obj) -> None:
        meta = obj["metadata"]
        self._changed.add((meta["namespace"], meta["name"] if kind == MODEL else meta["labels"][names.MODEL]))

    async def _delete(self, ref: Ref) -> None:
        live = self._store.get(ref.kind, ref.namespace, ref.name)
        if live is None or live["metadata"].get("deletionTimestamp"):
            return
        uid = ref.uid or live["metadata"]["uid"]
        self._note(ref.kind, live)
        try:
            answer = await self._api.delete(ref.kind, ref.namespace, ref.name, uid)
        except (NotFound, Conflict):
            self._store.remove(ref.kind, live)
            return
        self._settled.pop((ref.kind, ref.namespace, ref.name), None)
        if answer.get("kind") == "Status" or not answer["metadata"].get("finalizers"):
            self._store.remove(ref.kind, live)
        else:
            self._store.put(ref.kind, answer)


def _check_model(live: Obj, manifest: Manifest, uid: str) -> None:
    """Another model's objects are not ours, though names can meet: the Service of model `a-1f` and of revision `1f` of model `a`.
    Raises `Taken`."""
    meta = live["metadata"]
    other = (meta.get("labels") or {}).get(names.MODEL, "")
    owners = {owner.get("uid") for owner in meta.get("ownerReferences") or ()}
    if owners and uid not in owners and other != manifest["metadata"]["labels"][names.MODEL]:
        raise Taken(f"{live['kind']} {meta['name']} belongs to OptimizedModel {other}: rename one of the two")
