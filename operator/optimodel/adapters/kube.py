"""The API server over `kubernetes.aio`, in plain dicts. The only importer of the client.

The client finds the server, the certificates and the token and owns the connections; requests go straight to its HTTP
session, because its generated layer costs several times the request itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from kubernetes.aio import client, config
from yarl import URL

from ..api.names import FIELD_MANAGER, SELECTOR
from ..errors import ApiError, Conflict, Forbidden, Invalid, NotFound, Terminating, TooMany, Transient
from ..machinery.store import Obj
from ..machinery.sweep import Listing
from . import bodies
from .kinds import EVENT, KINDS, LEASE, Kind

_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_PAGE = 500
_READ_SECONDS = 30.0

_ADMISSION = re.compile(
    r"admission webhook \"[^\"]+\" denied the request|ValidatingAdmissionPolicy '[^']+' with binding"
)
"""How the API server introduces what an admission rule says. The rule chooses the status, often that of bad content."""

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Obj).decode


class _Metadata(TypedDict, total=False):
    namespace: str
    name: str
    uid: str
    resourceVersion: str


class _Item(TypedDict):
    metadata: _Metadata


_Position = TypedDict("_Position", {"resourceVersion": str, "continue": str}, total=False)


class _Page(TypedDict):
    metadata: _Position
    items: list[_Item] | None


_decode_page = msgspec.json.Decoder(_Page).decode
"""Keeps what a sweep compares: the rest, managed fields above all, would take the memory of all bodies at once."""


def failure(status: int, body: bytes, headers: Mapping[str, str]) -> ApiError:
    """The error of our tree that an answer stands for."""
    try:
        answer = _decode(body)
    except msgspec.DecodeError:
        answer = {}
    message = str(answer.get("message") or body[:200].decode(errors="replace") or f"status {status}")
    details = answer.get("details") or {}
    if status == 429:
        after = str(headers.get("Retry-After") or details.get("retryAfterSeconds") or "")
        return TooMany(message, status, float(after) if after.isdecimal() else 1.0)  # a proxy may say a date
    if status == 403:
        causes = {cause.get("reason") for cause in details.get("causes") or ()}
        ending = "NamespaceTerminating" in causes or "because it is being terminated" in message
        return Terminating(message, status) if ending else Forbidden(message, status)
    if status in (400, 413, 422):
        return (Forbidden if _ADMISSION.search(message) else Invalid)(message, status)
    found = {401: Forbidden, 404: NotFound, 405: NotFound, 409: Conflict, 410: Conflict}.get(status)
    return found(message, status) if found else Transient(message, status)


class Kube:
    """Requests of the operator. All raise `ApiError`. `budget` tells how many seconds a write may take and raises
    `NotLeading` when none may begin; `namespaces` restricts lists (empty = the whole cluster); `wrote` is told each write."""

    def __init__(
        self,
        settings: client.Configuration,
        budget: Callable[[], float] = lambda: _READ_SECONDS,
        namespaces: Sequence[str] = (),
        wrote: Callable[[str, str], None] = lambda verb, kind: None,
    ) -> None:
        self._api = client.ApiClient(settings)
        self._rest = self._api.rest_client
        self._session = self._rest.pool_manager or self._rest._create_pool_manager()
        self._rest.pool_manager = self._session
        self._settings = settings
        self.budget = budget
        self._namespaces = tuple(namespaces)
        self._wrote = wrote

    @classmethod
    async def connect(cls, context: str | None = None, **options: Any) -> Kube:
        """A client for `KUBECONFIG` or the default kubeconfig where there is one, else for the pod's service account.
        `context` overrides the kubeconfig's present one. Raises `ApiError` without either, or for a broken kubeconfig."""
        settings = client.Configuration()
        settings.connection_pool_maxsize = 64
        settings.client_session_kwargs = {"trust_env": False, "cookie_jar": aiohttp.DummyCookieJar()}
        if os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG"):
            config.load_incluster_config(settings)
        else:
            try:
                path = os.environ.get("KUBECONFIG")
                await config.load_kube_config(path, context=context, client_configuration=settings)
            except config.ConfigException as error:
                raise ApiError(f"no cluster to talk to: set KUBECONFIG ({error})", 0) from error
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                # The client's loader takes the shape of the file for granted.
                raise ApiError(
                    f"the kubeconfig is malformed: mend it, or set KUBECONFIG to another ({error})"
                ) from error
        return cls(settings, **options)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def get(self, kind: str, namespace: str, name: str) -> Obj:
        """One object."""
        return await self._call("GET", KINDS[kind].path(namespace, quote(name)))

    async def served(self, api_version: str) -> frozenset[str]:
        """Plural names of a group's kinds that clients can discover now."""
        found = _parsed(_decode, "/apis", await self._send("GET", "/apis", accept=_DISCOVERY))
        return frozenset(
            resource["resource"]
            for group in found["items"]
            for version in group["versions"]
            if f"{group['metadata']['name']}/{version['version']}" == api_version
            for resource in version["resources"]
        )

    async def list_metadata(self, kind: str) -> Listing:
        """Metadata of all objects of a kind that are watched; a kind that is missing raises NotFound."""
        known = KINDS[kind]
        found: list[_Metadata] = []
        version = 0
        for namespace in self._namespaces if known.namespaced and self._namespaces else ("",):
            first = await self._pages(known, namespace, found)
            version = min(version, first) if version else first
        return Listing(version, found)

    async def apply(self, manifest: Mapping[str, Any], force: bool = True, manager: str = FIELD_MANAGER) -> Obj:
        """Server-side apply as `manager`; the whole object comes back. Without `force`, another manager's field is a Conflict."""
        meta = manifest["metadata"]
        path = KINDS[manifest["kind"]].path(meta.get("namespace", ""), quote(meta["name"]))
        query = f"?fieldManager={manager}&force={'true' if force else 'false'}"
        return await self._write("apply", manifest["kind"], "PATCH", path + query, manifest, _APPLY)

    async def patch_status(self, kind: str, namespace: str, name: str, patch: Mapping[str, Any]) -> Obj:
        """Merge patch of the status; `patch` carries metadata.resourceVersion, so that a stale one is a Conflict."""
        path = KINDS[kind].path(namespace, quote(name), "status") + f"?fieldManager={FIELD_MANAGER}"
        return await self._write("status", kind, "PATCH", path, patch, _MERGE)

    async def patch(self, kind: str, namespace: str, name: str, patch: Mapping[str, Any]) -> Obj:
        """Merge patch of the object itself."""
        path = KINDS[kind].path(namespace, quote(name)) + f"?fieldManager={FIELD_MANAGER}"
        return await self._write("patch", kind, "PATCH", path, patch, _MERGE)

    async def delete(self, kind: str, namespace: str, name: str, uid: str = "", propagation: str = "Background") -> Obj:
        """Delete, only if the uid is still `uid`; the answer is the object while finalizers hold it, else a Status."""
        body: Obj = {"propagationPolicy": propagation}
        if uid:
            body["preconditions"] = {"uid": uid}
        return await self._write("delete", kind, "DELETE", KINDS[kind].path(namespace, quote(name)), body)

    async def events(self, namespace: str, uid: str, reason: str) -> list[Obj]:
        """Events of one reason about an object."""
        about = quote(f"involvedObject.uid={uid},reason={reason}")
        path = f"{EVENT.path(namespace)}?limit={_PAGE}&fieldSelector={about}"
        return list(_parsed(_decode, path, await self._send("GET", path)).get("items") or ())

    async def create_event(self, namespace: str, event: Obj) -> Obj:
        """POST an Event."""
        return await self._write("event", "Event", "POST", EVENT.path(namespace), event)

    async def patch_event(self, namespace: str, name: str, patch: Obj) -> Obj:
        """Merge patch of an Event."""
        return await self._write("event", "Event", "PATCH", EVENT.path(namespace, quote(name)), patch, _MERGE)

    async def get_lease(self, namespace: str, name: str, seconds: float) -> Obj:
        """The Lease."""
        return await self._call("GET", LEASE.path(namespace, name), seconds=seconds)

    async def create_lease(self, namespace: str, lease: Obj, seconds: float) -> Obj:
        """POST the Lease."""
        return await self._call("POST", LEASE.path(namespace), lease, seconds=seconds)

    async def replace_lease(self, namespace: str, lease: Obj, seconds: float) -> Obj:
        """PUT the Lease."""
        return await self._call("PUT", LEASE.path(namespace, lease["metadata"]["name"]), lease, seconds=seconds)

    async def _pages(self, kind: Kind, namespace: str, found: list[_Metadata]) -> int:
        query = f"?limit={_PAGE}" + (f"&labelSelector={quote(SELECTOR)}" if kind.owned else "")
        more, version = "", 0
        while True:
            path = kind.path(namespace) + query + more
            page = _parsed(_decode_page, path, await self._send("GET", path, accept=_METADATA))
            found.extend(item["metadata"] for item in page.get("items") or ())
            version = version or int(page["metadata"]["resourceVersion"])
            if not page["metadata"].get("continue"):
                return version
            more = f"&continue={quote(page['metadata']['continue'])}"

    async def _write(
        self, verb: str, kind: str, method: str, path: str, body: Mapping[str, Any], content: str = "application/json"
    ) -> Obj:
        seconds = min(_READ_SECONDS, self.budget())
        answer = await self._call(method, path, body, content, seconds=seconds)
        self._wrote(verb, kind)
        return answer

    async def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        content: str = "application/json",
        seconds: float = _READ_SECONDS,
    ) -> Obj:
        return _parsed(bodies.body, path, await self._send(method, path, body, content, seconds=seconds))

    async def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        content: str = "application/json",
        accept: str = "application/json",
        seconds: float = _READ_SECONDS,
    ) -> bytes:
        headers = {"Accept": accept, "Content-Type": content}
        token = await self._settings.get_api_key_with_prefix("BearerToken", alias="authorization")
        if token:
            headers["Authorization"] = token
        data = None if body is None else _encode(body)
        limit = aiohttp.ClientTimeout(total=seconds, sock_connect=5.0)
        options: dict[str, Any] = {"proxy": self._settings.proxy} if self._settings.proxy else {}
        if self._settings.tls_server_name:
            options["server_hostname"] = self._settings.tls_server_name
        try:
            async with self._session.request(
                method,
                URL(self._settings.host + path, encoded=True),
                data=data,
                headers=headers,
                timeout=limit,
                allow_redirects=False,
                **options,
            ) as response:
                answer: bytes = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Transient(f"{method} {path}: {error or 'time-out'}") from error
        if response.status >= 300:
            raise failure(response.status, answer, response.headers)
        return answer


def _parsed(decode: Callable[[bytes], T], path: str, answer: bytes) -> T:
    try:
        return decode(answer)
    except msgspec.DecodeError as error:
        raise Transient(f"{path}: answer cut short: {error}") from error
