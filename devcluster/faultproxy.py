"""A reverse proxy in front of an API server that misbehaves on demand: latency, refusals, lost answers, cut watches.

``with FaultProxy(api.kubeconfig) as proxy:`` serves plain HTTP on a free port of loopback, in a thread of its own;
clients use ``proxy.kubeconfig``. Rules are appended and removed while it runs. Needs aiohttp.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import ssl
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from devcluster.control import free_port
from devcluster.pki import write_kubeconfig

VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get", "HEAD": "get"}
NOT_FORWARDED = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host"}
REASONS = {
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
PATH = re.compile(
    r"^/(?:api/(?P<core>[^/]+)|apis/(?P<group>[^/]+)/[^/]+)"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/[^/]))?/(?P<resource>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>.+))?$"
)


@dataclass(frozen=True)
class Call:
    """A request as the API server understands it; ``resource`` is like ``pods``, ``jobs.batch`` or ``jobs.batch/status``."""

    verb: str
    resource: str
    namespace: str = ""
    name: str = ""

    @classmethod
    def parse(cls, method: str, path: str, query: dict[str, str]) -> Call:
        """Read a request's verb and object; a path that is no resource (``/healthz``) becomes the resource itself."""
        verb, match = VERBS.get(method, method.lower()), PATH.match(path)
        if match is None:
            return cls(verb, path)
        group, sub, name = match["group"], match["sub"], match["name"] or ""
        resource = match["resource"] + (f".{group}" if group else "") + (f"/{sub}" if sub else "")
        if verb == "get" and not name:
            verb = "list"
        if verb == "delete" and not name:
            verb = "deletecollection"
        if verb in ("get", "list") and query.get("watch", "") in ("1", "true", "True"):
            verb = "watch"
        return cls(verb, resource, match["namespace"] or "", name)


@dataclass
class Rule:
    """What to do to matching calls: ``verb``, ``resource``, ``namespace``, ``name`` are regular expressions for the whole value.

    The first ``skip`` matches pass, then ``times`` are hit (None: all). ``delay`` is in seconds and comes first. Then one
    of: ``status`` answers it (with ``retry_after`` in seconds); ``drop`` closes the connection before the request is
    forwarded, or after the server has carried it out; ``crash`` is called when the server has carried it out and nobody
    heard of it, then the connection closes; for watches, ``cut_after`` seconds ends the stream, with an ERROR event of
    ``watch_error`` first if set.
    """

    verb: str = ".*"
    resource: str = ".*"
    namespace: str = ".*"
    name: str = ".*"
    skip: int = 0
    times: int | None = 1
    delay: float = 0.0
    status: int | None = None
    retry_after: int | None = None
    drop: Literal["before", "after"] | None = None
    crash: Callable[[], object] | None = None
    cut_after: float | None = None
    watch_error: int | None = None
    seen: int = field(default=0, init=False)
    hits: int = field(default=0, init=False)

    def matches(self, call: Call) -> bool:
        """Say whether the rule is about a call, whatever its counters."""
        pairs = [(self.verb, call.verb), (self.resource, call.resource)]
        pairs += [(self.namespace, call.namespace), (self.name, call.name)]
        return all(re.fullmatch(pattern, value) for pattern, value in pairs)

    def take(self, call: Call) -> bool:
        """Count a call, and say whether the rule hits it."""
        if not self.matches(call):
            return False
        self.seen += 1
        if self.seen <= self.skip or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True


def status_body(code: int, message: str = "injected by the fault proxy") -> dict[str, Any]:
    """Return the ``Status`` object that an API server sends with an error."""
    base = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {**base, "message": message, "reason": REASONS.get(code, ""), "code": code}


class FaultProxy:
    """The proxy. ``rules`` are tried in order and the first that hits applies; ``calls`` lists every call that arrived."""

    def __init__(self, kubeconfig: Path, impersonate: str | None = None) -> None:
        """``impersonate`` makes every request act as that user, whom the audit log then names."""
        self.rules: list[Rule] = []
        self.calls: list[Call] = []
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = Path(tempfile.mkdtemp(prefix="optimodel-proxy-"))
        self.kubeconfig = write_kubeconfig(self._folder / "kubeconfig", {"server": self.url}, {"token": "proxy"})
        self._upstream, self._tls = self._credentials(kubeconfig)
        self._impersonate = impersonate
        self._watches: dict[asyncio.Task[Any], Call] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)

    def _credentials(self, kubeconfig: Path) -> tuple[str, ssl.SSLContext]:
        document = json.loads(kubeconfig.read_text())
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        for name, value in (("crt", user["client-certificate-data"]), ("key", user["client-key-data"])):
            (self._folder / name).write_bytes(base64.b64decode(value))
        context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        context.load_cert_chain(self._folder / "crt", self._folder / "key")
        return cluster["server"], context

    def cut_watches(self, resource: str = ".*") -> int:
        """End the watches of matching resources now, without a word; return how many there were."""

        async def cut() -> int:
            tasks = [task for task, call in self._watches.items() if re.fullmatch(resource, call.resource)]
            for task in tasks:
                task.cancel()
            return len(tasks)

        return asyncio.run_coroutine_threadsafe(cut(), self._loop).result(10)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _start(self) -> None:
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        application = web.Application(client_max_size=8 * 1024**2)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def _stop(self) -> None:
        for task in list(self._watches):
            task.cancel()
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = Call.parse(request.method, request.path, dict(request.query))
        self.calls.append(call)
        rule = next((rule for rule in list(self.rules) if rule.take(call)), Rule())
        await asyncio.sleep(rule.delay)
        if rule.drop == "before":
            return abort(request)
        if rule.status is not None:
            headers = {} if rule.retry_after is None else {"Retry-After": str(rule.retry_after)}
            return web.json_response(status_body(rule.status), status=rule.status, headers=headers)
        task = asyncio.ensure_future(self._forward(request, call, rule))
        if call.verb == "watch":
            self._watches[task] = call
            task.add_done_callback(self._watches.pop)
        try:
            return await task
        except asyncio.CancelledError:
            if not task.cancelled():
                task.cancel()
                raise
            return abort(request)
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            return abort(request)

    async def _forward(self, request: web.Request, call: Call, rule: Rule) -> web.StreamResponse:
        headers = CIMultiDict((k, v) for k, v in request.headers.items() if k.lower() not in NOT_FORWARDED)
        headers.popall("Authorization", None)
        if self._impersonate:
            headers["Impersonate-User"] = self._impersonate
            headers["Impersonate-Group"] = "system:masters"
        url = URL(self._upstream + request.raw_path, encoded=True)
        body = await request.read()
        async with self._session.request(request.method, url, headers=headers, data=body or None) as answer:
            if rule.drop == "after" or rule.crash is not None:
                await answer.read()
                if rule.crash is not None:
                    rule.crash()
                return abort(request)
            reply = web.StreamResponse(status=answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in NOT_FORWARDED:
                    reply.headers.add(name, value)
            await reply.prepare(request)
            await self._copy(answer, reply, call, rule)
            return reply

    async def _copy(self, answer: aiohttp.ClientResponse, reply: web.StreamResponse, call: Call, rule: Rule) -> None:
        cutting = call.verb == "watch" and (rule.cut_after is not None or rule.watch_error is not None)
        try:
            async with asyncio.timeout((rule.cut_after or 0.0) if cutting else None):
                async for chunk in answer.content.iter_any():
                    await reply.write(chunk)
        except TimeoutError:
            if not cutting:
                raise
            if rule.watch_error is not None:
                event = {"type": "ERROR", "object": status_body(rule.watch_error)}
                await reply.write(json.dumps(event).encode() + b"\n")
        await reply.write_eof()


def abort(request: web.Request) -> web.StreamResponse:
    """Close the client's connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=499)
