"""kopf -> store and queue: adapters without decisions. With `app`, the only importer of kopf."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Callable, Collection, Hashable, Iterable, Iterator
from typing import Any

import kopf
from kopf._cogs.clients import api, watching
from kopf._cogs.configs.arrays import SelectorMapping

from .adapters import bodies
from .adapters.kinds import KINDS, WATCHED
from .api import names
from .machinery.queue import WorkQueue
from .machinery.store import Obj, Store
from .snapshot import MODEL, by_digest, by_hostname, shared

log = logging.getLogger(__name__)

Key = tuple[str, str]

_SHARED = ("TritonRuntime", "ClusterTritonRuntime", "OptimizationRecipe", "ClusterOptimizationRecipe")
"""Kinds that OptimizedModels name."""


def owner_index(kind: str, obj: Obj) -> Iterable[Hashable]:
    """Index "owner": owned objects by (kind, namespace, model)."""
    meta = obj["metadata"]
    model = (meta.get("labels") or {}).get(names.MODEL)
    return ((kind, meta.get("namespace", ""), model),) if model else ()


def uses_index(kind: str, obj: Obj) -> Iterable[Hashable]:
    """Index "uses": OptimizedModels by (kind, namespace or "", name) of the runtime and the recipe that they name."""
    if kind != MODEL:
        return
    spec, namespace = obj.get("spec", {}), obj["metadata"]["namespace"]
    runtime = (spec.get("serving") or {}).get("runtimeRef") or {}
    recipe = (spec.get("optimization") or {}).get("recipeRef")
    yield shared(runtime.get("kind", "ClusterTritonRuntime"), namespace, runtime.get("name", "default"))
    if recipe:
        yield shared(recipe.get("kind", "ClusterOptimizationRecipe"), namespace, recipe["name"])


def trim_pod(pod: Obj) -> Obj:
    """What is read of a pod: metadata, status, node and container names."""
    spec = pod.get("spec") or {}
    kept = {"nodeName": spec.get("nodeName"), "containers": [{"name": c["name"]} for c in spec.get("containers") or ()]}
    return {**pod, "spec": {key: value for key, value in kept.items() if value}}


def new_store() -> Store:
    """The store with the operator's indexes and trims."""
    return Store(
        {"owner": owner_index, "uses": uses_index, "hostname": by_hostname, "digest": by_digest},
        {"Pod": trim_pod},
    )


class Router:
    """Maps an observed object to the keys that it concerns, and queues them."""

    def __init__(
        self, store: Store, queue: WorkQueue[Key], restarted: Callable[[str], None] = lambda kind: None
    ) -> None:
        self._store, self._queue, self.restarted = store, queue, restarted

    def ingest(self, kind: str, type: str | None, obj: Obj) -> None:
        """One watch event; `type` is None for an object of a LIST."""
        if type == "DELETED":
            changed = self._store.remove(kind, obj, forever=not KINDS[kind].owned)
        else:
            changed = self._store.put(kind, obj)
        if changed:
            self.changed(kind, obj)

    def changed(self, kind: str, obj: Obj) -> None:
        """Queue whatever an object concerns."""
        meta = obj["metadata"]
        if kind == MODEL:
            self._queue.add((meta["namespace"], meta["name"]))
        elif kind in _SHARED:
            for _, namespace, name in self._store.by("uses", (kind, meta.get("namespace", ""), meta["name"])):
                self._queue.add((namespace, name))
        else:
            model = (meta.get("labels") or {}).get(names.MODEL)
            if model:
                self._queue.add((meta["namespace"], model))

    def learn(self, kind: str, uid: str, fact: object) -> bool:
        """Keep a fact about a pod; True if it is news."""
        return self._store.set_fact(kind, uid, fact)

    def all(self, *_: object) -> None:
        """Queue every OptimizedModel."""
        for namespace, name, _uid, _version in self._store.names(MODEL):
            self._queue.add((namespace, name))


def register(registry: kopf.OperatorRegistry, router: Router, settings: kopf.OperatorSettings) -> None:
    """Watch every kind; owned kinds by our label, on the server's side."""
    kopf.on.login(registry=registry)(_login)
    settings.watching.label_selectors = _Selectors(router)
    for kind in WATCHED:
        kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id=kind.plural)(_never)
        if kind.owned:
            settings.watching.label_selectors[kind.group, kind.version, kind.plural] = names.SELECTOR


async def _never(**_: Any) -> None:
    """kopf watches what has a handler; this one is never called, for the events end in `_stream`."""


def _login(**options: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**options) or kopf.login_with_kubeconfig(**options)


class _Selectors(SelectorMapping[str]):
    """kopf asks for a kind's selector whenever it lists or watches anew. An empty list after a gap brings no event, so this
    is the one place that tells of it."""

    def __init__(self, router: Router) -> None:
        super().__init__()
        self._router = router
        self._kinds = {(kind.group, kind.plural): kind.kind for kind in WATCHED}

    def collect(self, resource: Any) -> list[str]:
        kind = self.kind(resource)
        if kind is not None:
            self._router.restarted(kind)
        return super().collect(resource)

    def kind(self, resource: Any) -> str | None:
        """Our kind behind one of kopf's resources."""
        return self._kinds.get((resource.group, resource.plural))

    def take(self, kind: str, event: Any) -> None:
        """Take an event of a watch or a list. An error here would end the watches, so a body that cannot be taken is left
        to the next sweep."""
        try:
            self._router.ingest(kind, event["type"], event["object"])
        except Exception:
            log.exception("%s: an event could not be taken", kind)


_infinite_watch = watching.infinite_watch


async def _stream(*, settings: kopf.OperatorSettings, resource: Any, **options: Any) -> AsyncIterator[Any]:
    """kopf's stream of a kind, but what is ours is taken here: a task, a queue and a search for handlers per object and
    event would cost six times as much as the store does, and hold every body of a list in memory at once."""
    ours = settings.watching.label_selectors
    kind = ours.kind(resource) if isinstance(ours, _Selectors) else None
    async for event in _infinite_watch(settings=settings, resource=resource, **options):
        if not isinstance(ours, _Selectors) or kind is None or isinstance(event, watching.Bookmark):
            yield event
        elif event["type"] != "BOOKMARK":
            ours.take(kind, event)


class _Json:
    """In the place of `json` where kopf reads the lines of a watch: the standard library takes an eighth of the operator's time."""

    loads = staticmethod(bodies.watch_event)


watching.infinite_watch = _stream
api.json = _Json  # type: ignore[attr-defined,assignment]


class _Backoffs:
    """Endless jittered delays: an outage of any length is waited out, and its end noticed within seconds."""

    def __iter__(self) -> Iterator[float]:
        delay = 0.25
        while True:
            yield delay * random.uniform(0.75, 1.25)
            delay = min(2.0, delay * 2)


def transport() -> kopf.OperatorSettings:
    """kopf's settings for a transport that never gives up and never writes, and says nothing of each event."""
    logging.getLogger("kopf").setLevel(logging.WARNING)
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.networking.error_backoffs = _Backoffs()
    settings.networking.request_timeout = 30.0
    settings.networking.connect_timeout = 5.0
    settings.watching.server_timeout = 1800
    settings.watching.client_timeout = 1830.0
    settings.watching.connect_timeout = 5.0
    settings.watching.chunk_size = 100
    settings.queueing.exit_timeout = 0.2
    return settings


def scope(namespaces: Collection[str]) -> dict[str, Any]:
    """kopf's arguments for these namespaces, or the whole cluster."""
    return {"namespaces": list(namespaces)} if namespaces else {"clusterwide": True}
