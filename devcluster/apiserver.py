"""A real etcd and kube-apiserver, without nodes, for integration tests.

``python3 -m devcluster.apiserver`` starts one and prints its kubeconfig until interrupted.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from devcluster.binaries import binary, kwok_stages
from devcluster.control import Control, free_port
from devcluster.processes import Process, wait_until

STAGES = ("node/fast", "node/heartbeat-with-lease", "pod/fast")


class ApiServer:
    """An API server of one's own on free ports and in a temporary folder, up within seconds.

    ``controllers`` adds kube-controller-manager and ``scheduler`` kube-scheduler; ``kwok`` adds kwok, which plays
    every node and the pods on them as ``stages`` (folders of kwok's own) and ``kwok_config`` (a file of Stages) say.
    ``servers`` makes it behave as one of several: it serves a new kind 5 s after its CRD.
    ``stop()`` and ``start()`` are an outage of the API server: etcd's data stay.
    """

    def __init__(
        self,
        controllers: bool = False,
        kwok: bool = False,
        scheduler: bool = False,
        stages: tuple[str, ...] = STAGES,
        kwok_config: Path | None = None,
        folder: Path | None = None,
        servers: int = 1,
    ) -> None:
        self._own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="optimodel-api-"))
        self.control = Control(self.folder, free_port(), free_port(), free_port(), servers=servers)
        self._etcd, self._server = self._process("etcd"), self._process("apiserver")
        self._extra: list[tuple[Process, list[str]]] = []
        if controllers:
            self._extra.append((self._process("controllers"), self.control.controller_manager()))
        if scheduler:
            self._extra.append((self._process("scheduler"), self.control.scheduler()))
        if kwok:
            self._extra.append((self._process("kwok"), self._kwok(stages, kwok_config)))

    def _process(self, name: str) -> Process:
        return Process(name, self.folder / "run", self.folder / "log")

    def _kwok(self, stages: tuple[str, ...], config: Path | None) -> list[str]:
        files = [file for stage in stages for file in sorted((kwok_stages() / stage).glob("*.yaml"))]
        files = [file for file in files if file.name != "kustomization.yaml"] + ([config] if config else [])
        command = [str(binary("kwok")), f"--kubeconfig={self.kubeconfig}", "--manage-all-nodes=true"]
        command += [
            "--node-ip=127.0.0.1",
            "--node-lease-duration-seconds=40",
            f"--server-address=127.0.0.1:{free_port()}",
        ]
        return [*command, *(f"--config={file}" for file in files)]

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.control.kubeconfig()

    def user(self, name: str, group: str = "system:masters") -> Path:
        """Return a kubeconfig of a user of that name and group, whom the audit log then tells from the others."""
        self.control.pki.certificate(f"user-{name}", f"/O={group}/CN={name}")
        return self.control.pki.kubeconfig(
            f"user-{name}", self.url, self.folder / f"{name.replace(':', '-')}.kubeconfig"
        )

    @property
    def url(self) -> str:
        """Address of the API server, ``https://127.0.0.1:PORT``."""
        return self.control.url

    @property
    def audit_log(self) -> Path:
        """One JSON object a line for every create, update, patch, delete and deletecollection answered."""
        return self.control.audit_log

    def start(self, seconds: float = 60.0) -> None:
        """Start what does not run and return once the API server is ready; raises RuntimeError with its log's end."""
        self._etcd.start(self.control.etcd())
        self._server.start(self.control.apiserver())
        if not wait_until(lambda: self.control.ready() or not self._server.pid, seconds, 0.05) or not self._server.pid:
            raise RuntimeError(f"kube-apiserver did not become ready:\n{self._server.tail()}")
        for process, command in self._extra:
            process.start(command)

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> None:
        """Stop kube-apiserver alone: clients see refused connections until ``start()``."""
        self._server.stop(sign=sign)

    def close(self) -> None:
        """Stop everything and remove the folder."""
        for process, _ in reversed(self._extra):
            process.stop(sign=signal.SIGKILL)
        self._server.stop(sign=signal.SIGKILL)
        self._etcd.stop(sign=signal.SIGKILL)
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> ApiServer:
        self.control.prepare()
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def main() -> None:
    """Run an API server until interrupted."""
    with ApiServer(controllers="--controllers" in sys.argv, kwok="--kwok" in sys.argv) as api:
        print(f"export KUBECONFIG={api.kubeconfig}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
