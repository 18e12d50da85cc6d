"""A control plane of its own whose pods kwok plays, with the operator's kinds, roles and a user for each client."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import msgspec
import yaml
from devcluster.apiserver import ApiServer
from devcluster.control import Control, free_port
from devcluster.processes import Process
from tests.perf import stages

REPO = Path(__file__).parents[2]
PYTHONPATH = f"{REPO / 'operator'}:{REPO}"
NAMESPACE = "bench"
OPERATOR, FLOOR, PEOPLE = "optimodel-operator", "floor", "people"
NEEDED = "deployment-controller,replicaset-controller,job-controller,serviceaccount-controller"
NODES = 20
NODE_STAGES = ("node/fast",)
"""kwok's own play of nodes; that of pods is ours."""
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON = "application/json"
INSTALLED = ("Namespace", "CustomResourceDefinition", "ClusterRole", "Role")


class Refused(Exception):
    """The API server answered with an error."""


class Client:
    """Bare requests of one user: at most `limit` connections."""

    def __init__(self, control: Control, user: str, limit: int = 64) -> None:
        tls = ssl.create_default_context(cafile=str(control.pki.path("ca.crt")))
        tls.load_cert_chain(control.pki.path(f"{user}.crt"), control.pki.path(f"{user}.key"))
        connector = aiohttp.TCPConnector(ssl=tls, limit=limit)
        self._url, self._session = control.url, aiohttp.ClientSession(connector=connector)

    async def call(self, method: str, path: str, body: bytes | None = None, content: str = JSON) -> bytes:
        """The answer's body; Refused for an error."""
        headers = {"Content-Type": content} if body is not None else {}
        async with self._session.request(method, self._url + path, data=body, headers=headers) as response:
            answer = await response.read()
            if response.status >= 300:
                raise Refused(f"{method} {path}: {answer.decode()[:500]}")
            return answer

    async def create(self, path: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """POST an object."""
        found: dict[str, Any] = msgspec.json.decode(await self.call("POST", path, msgspec.json.encode(manifest)))
        return found

    async def watch(self, path: str) -> AsyncIterator[bytes]:
        """Events of a collection from its beginning, one JSON document each; ends with the connection."""
        limit = aiohttp.ClientTimeout(total=None)
        async with self._session.get(f"{self._url}{path}?watch=true", timeout=limit) as response:
            if response.status >= 300:
                raise Refused(f"watch of {path}: {(await response.read()).decode()[:500]}")
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n") if b"\n" in chunk else (rest + chunk,)
                for line in lines:
                    yield line

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


class ControlPlane(ApiServer):
    """etcd, API server, scheduler, kwok and the controllers that the path needs; the stand-in server beside them."""

    def __init__(self) -> None:
        super().__init__(controllers=True, scheduler=True, kwok=True, stages=NODE_STAGES)
        port = free_port()
        self._address = f"127.77.{port // 256}.{port % 256}"
        config = stages.write(self.folder / "kwok.yaml", self._address)
        raised = {
            "controllers": [f"--controllers={NEEDED}", "--kube-api-qps=400", "--kube-api-burst=800",
                            "--concurrent-deployment-syncs=10", "--concurrent-replicaset-syncs=10",
                            "--concurrent-job-syncs=10"],
            "scheduler": ["--kube-api-qps=400", "--kube-api-burst=800"],
            "kwok": [f"--config={config}"],
        }  # fmt: skip
        self._extra = [
            (process, [word for word in command if not word.startswith("--controllers=")] + raised[process.name])
            for process, command in self._extra
        ]
        self._standin = self._process("standin")

    def start(self, seconds: float = 60.0) -> None:
        """Start what does not run, the stand-in too."""
        super().start(seconds)
        self._standin.start([sys.executable, "-m", "tests.perf.standin", self._address], {"PYTHONPATH": PYTHONPATH})

    def close(self) -> None:
        """Stop everything and remove the folder."""
        self._standin.stop()
        super().close()

    @property
    def processes(self) -> list[Process]:
        """The processes of the control plane and kwok."""
        return [self._etcd, self._server, *(process for process, _ in self._extra)]


class Bench:
    """A control plane that is ready to be measured, and the people's client to it."""

    def __init__(self) -> None:
        self.api = ControlPlane()
        self.control = self.api.control

    async def __aenter__(self) -> Bench:
        self.api.__enter__()
        try:
            for user in (OPERATOR, FLOOR, PEOPLE):
                self.control.pki.certificate(user, f"/O=bench/CN={user}")
            self._admin = Client(self.control, "admin")
            self.people = Client(self.control, PEOPLE)
            await self._install()
        except BaseException:
            self.api.__exit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(self._admin.close(), self.people.close())
        self.api.__exit__(kind, error, trace)

    def kubeconfig(self, user: str) -> Path:
        """A kubeconfig of a user."""
        return self.control.pki.kubeconfig(user, self.control.url, self.control.kubeconfig(user))

    async def _install(self) -> None:
        manifests = [*yaml.safe_load_all((REPO / "manifests/install.yaml").read_text())]
        for manifest in [each for kind in INSTALLED for each in manifests if each and each["kind"] == kind]:
            await self._apply(manifest)
        await self._apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        await self._bind("ClusterRole", "optimodel-operator", OPERATOR)
        await self._bind("Role", "optimodel-leader", OPERATOR, "optimodel-system")
        await self._bind("ClusterRole", "cluster-admin", FLOOR)
        await self._bind("ClusterRole", "cluster-admin", PEOPLE)
        runtime = {
            "apiVersion": "optimodel.dev/v1alpha1",
            "kind": "ClusterTritonRuntime",
            "metadata": {"name": "default"},
        }
        await self._until(lambda: self._apply({**runtime, "spec": {"image": "triton:1"}}))
        await asyncio.gather(*(self._node(f"node-{number}") for number in range(NODES)))
        for path in (
            f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default",
            "/apis/optimodel.dev/v1alpha1/optimizedmodels",
        ):
            await self._until(lambda path=path: self._admin.call("GET", path))  # type: ignore[misc]

    async def _node(self, name: str) -> None:
        """A node that kwok brings up; the taint of new nodes is taken off, for no controller of nodes runs."""
        await self._apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        await self._admin.call("PATCH", f"/api/v1/nodes/{name}", b'{"spec":{"taints":null}}', MERGE)

    async def _bind(self, kind: str, role: str, user: str, namespace: str = "") -> None:
        group = "rbac.authorization.k8s.io"
        meta = {"name": f"{role}-{user}"} | ({"namespace": namespace} if namespace else {})
        subject = {"apiGroup": group, "kind": "User", "name": user}
        manifest = {"apiVersion": f"{group}/v1", "kind": "RoleBinding" if namespace else "ClusterRoleBinding"}
        await self._apply({**manifest, "metadata": meta, "roleRef": {"apiGroup": group, "kind": kind, "name": role},
                           "subjects": [subject]})  # fmt: skip

    async def _apply(self, manifest: dict[str, Any]) -> None:
        meta, version = manifest["metadata"], manifest["apiVersion"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        where = f"/namespaces/{meta['namespace']}" if meta.get("namespace") else ""
        path = f"{root}{where}/{manifest['kind'].lower()}s/{meta['name']}?fieldManager=bench&force=true"
        await self._admin.call("PATCH", path, msgspec.json.encode(manifest), APPLY)

    async def _until(self, attempt: Callable[[], Awaitable[object]], seconds: float = 30.0) -> None:
        """Attempt until it is not refused."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while True:
            try:
                await attempt()
                return
            except Refused:
                if loop.time() > end:
                    raise
                await asyncio.sleep(0.1)
