"""An operator as a process of its own on an API server of its own, and what a user sees of it."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from devcluster.addons import define
from devcluster.apiserver import ApiServer
from devcluster.binaries import binary
from devcluster.control import free_port

REPO = Path(__file__).parents[2]
CRDS = "\n---\n".join(path.read_text() for path in sorted((REPO / "crds").glob("*.yaml")))


def eventually(seen: Callable[[], Any], seconds: float, what: str = "") -> float:
    """Poll until `seen()` is true; seconds it took. Fails at the deadline."""
    began = time.monotonic()
    while not seen():
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {what or seen}"
        time.sleep(0.05)
    return time.monotonic() - began


class Cluster:
    """kubectl on `api`, with the operator's kinds installed."""

    def __init__(self, api: ApiServer) -> None:
        self.api = api
        self._command = [str(binary("kubectl")), f"--kubeconfig={api.kubeconfig}"]
        define(api.kubeconfig, CRDS)

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        done = subprocess.run([*self._command, *arguments], input=text, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def crash(self) -> None:
        """Kill the API server and start it again; connections of a stopped client may keep its port for a while."""

        def started() -> bool:
            try:
                self.api.start()
            except RuntimeError:
                return False
            return True

        self.api.stop(signal.SIGKILL)
        eventually(started, 60, "the API server's port is free")

    def create(self, *names: str) -> None:
        spec = {"task": "TextEmbedding", "source": {"s3": {"url": "s3://bucket/source"}}}
        spec["artifacts"] = {"s3": {"url": "s3://bucket/store"}}
        meta = [{"name": name, "namespace": "default"} for name in names]
        kind = {"apiVersion": "optimodel.dev/v1alpha1", "kind": "OptimizedModel"}
        items = [{**kind, "metadata": each, "spec": spec} for each in meta]
        self.kubectl("create", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    def list(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, "-o", "json"))["items"]
        return found

    def ready(self) -> int:
        """Objects whose own generation is Ready."""
        objects = self.list("optimizedmodels")
        phases = [(o.get("status", {}).get("phase"), o.get("status", {}).get("observedGeneration") == o["metadata"]["generation"])
                  for o in objects]  # fmt: skip
        return phases.count(("Ready", True))

    def services(self) -> set[str]:
        return {s["metadata"]["name"] for s in self.list("services")} - {"kubernetes"}

    def writes(self) -> Counter[str]:
        """Writes but for Leases and Events, other than kubectl's and the control plane's own: `verb resource/name/subresource`."""
        found: Counter[str] = Counter()
        for line in self.api.audit_log.read_text().splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            at = entry.get("objectRef", {})
            agent = entry.get("userAgent", "")
            if at.get("resource") in ("leases", "events") or agent.startswith(("kubectl", "kube-")):
                continue
            if entry.get("stage", "ResponseComplete") == "ResponseComplete":
                found[f"{entry['verb']} {at.get('resource')}/{at.get('name')}/{at.get('subresource', '')}"] += 1
        return found


TOY = (str(REPO / "tests" / "integration" / "toy.py"),)
REAL = ("-m", "optimodel.app")


class Operator:
    """A process of the toy operator, or of another `program` (python's arguments). `end` waits for it."""

    def __init__(
        self,
        cluster: Cluster,
        log: Path,
        uid: str,
        kubeconfig: Path | None = None,
        program: tuple[str, ...] = TOY,
        **env: str,
    ) -> None:
        self.port = free_port()
        given = {
            "KUBECONFIG": str(kubeconfig or cluster.api.kubeconfig),
            "OPTIMODEL_WORKER_IMAGE": "worker:1",
            "OPTIMODEL_OPERATOR_IMAGE": "operator:1",
            "OPTIMODEL_HEALTH_PORT": str(self.port),
            "PYTHONPATH": f"{REPO / 'operator'}",
            "POD_UID": uid,
        }
        self.log = log.open("ab")
        self.process = subprocess.Popen([sys.executable, *program], env={**os.environ, **given, **env}, stderr=self.log)

    def ask(self, path: str) -> tuple[int, str]:
        """A page of the health server; 0 = no answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as answer:
                return answer.status, answer.read().decode()
        except OSError as error:
            return getattr(error, "code", 0), ""

    def figure(self, name: str) -> float:
        """One figure of the metrics page; 0 when absent."""
        lines = [line.split() for line in self.ask("/metrics")[1].splitlines() if line.startswith(name)]
        return float(lines[0][1]) if lines else 0.0

    def leads(self) -> bool:
        return self.figure("optimodel_leading ") == 1

    def send(self, sign: signal.Signals) -> None:
        self.process.send_signal(sign)

    def end(self, sign: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(sign)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            self.log.close()
