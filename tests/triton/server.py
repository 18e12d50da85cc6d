"""A real tritonserver on loopback ports, as its image runs it, from the requirements that the image installs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from devcluster import sites
from devcluster.paths import REPO, digest

BACKENDS = REPO / "operator" / "optimodel" / "backends"
START_S = 90.0


def python_home(site: Path) -> Path:
    """An empty virtual environment that sees `site`: Triton's stub looks where the first `python3` on PATH does."""
    home = site.with_name(site.name + ".python")
    with sites.locked("triton-python"):
        if not (home / "bin" / "python3").exists():
            subprocess.run([sites.interpreter(), "-m", "venv", "--without-pip", str(home)], check=True)
        (home / "lib" / "python3.11" / "site-packages" / "site.pth").write_text(f"{site}\n")
    return home


def backend_directory(site: Path) -> Path:
    """The python backend with the stub of this Python, beside the development `onnxruntime` backend."""
    triton = site / "pytriton" / "tritonserver"
    ours = BACKENDS / "onnxruntime" / "model.py"
    target = site.with_name(f"{site.name}.backends-{digest(ours)}")
    with sites.locked("triton-backends"):
        if not target.exists():
            partial = target.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(triton / "backends" / "python", partial / "python")
            stub = "triton_python_backend_stub"
            shutil.copy2(triton / "python_backend_stubs" / "3.11" / stub, partial / "python" / stub)
            (partial / "onnxruntime").mkdir()
            shutil.copyfile(ours, partial / "onnxruntime" / "model.py")
            partial.rename(target)
    return target


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Server:
    """A server on one repository. Leaving the `with` block stops it; `log` is all that it said."""

    def __init__(self, repository: Path, log: Path) -> None:
        self.repository, self.log_path = repository, log
        self.http, self.grpc, self.metrics = free_ports(3)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def command(self) -> list[str]:
        site = sites.site("triton")
        triton = site / "pytriton" / "tritonserver"
        return [
            str(triton / "bin" / "tritonserver"),
            f"--model-repository={self.repository}",
            f"--backend-directory={backend_directory(site)}",
            f"--cache-directory={triton / 'caches'}",
            "--model-control-mode=none",
            "--exit-on-error=true",
            "--disable-auto-complete-config",
            "--allow-gpu-metrics=false",
            "--exit-timeout-secs=20",
            f"--backend-config=python,shm-region-prefix-name=om{self.http}_",
            *(f"--{kind}-address=127.0.0.1" for kind in ("http", "grpc", "metrics")),
            *(f"--{kind}-port={getattr(self, kind)}" for kind in ("http", "grpc", "metrics")),
        ]

    def spawn(self) -> Server:
        """Start the process without waiting for it."""
        site = sites.site("triton")
        env = {
            **os.environ,
            "LD_LIBRARY_PATH": str(site / "nvidia_pytriton.libs"),
            "PATH": f"{python_home(site) / 'bin'}:{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        with self.log_path.open("wb") as sink:
            self.process = subprocess.Popen(
                self.command(), stdout=sink, stderr=subprocess.STDOUT, env=env, start_new_session=True
            )
        return self

    def wait_ready(self) -> Server:
        """Return once every model is ready. Raises `RuntimeError` with the log when the server gives up."""
        assert self.process
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"tritonserver ended with {self.process.returncode}:\n{self.log[-4000:]}")
            try:
                with urllib.request.urlopen(f"{self.url}/v2/health/ready", timeout=2) as answer:
                    if answer.status == 200:
                        return self
            except (OSError, urllib.error.URLError):
                time.sleep(0.05)
        raise RuntimeError(f"tritonserver is not ready after {START_S} s:\n{self.log[-4000:]}")

    def stop(self, grace: float = 30.0) -> int:
        """SIGTERM, SIGKILL to the whole session after `grace` seconds; the exit status."""
        assert self.process
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(grace)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        for orphan in Path("/dev/shm").glob(f"om{self.http}_*"):
            orphan.unlink(missing_ok=True)
        return self.process.returncode

    def __enter__(self) -> Server:
        self.spawn()
        try:
            return self.wait_ready()
        except BaseException:
            self.stop(5)
            raise

    def __exit__(self, *exc: object) -> None:
        self.stop()


if __name__ == "__main__":
    server = Server(Path(sys.argv[1]), Path(sys.argv[1] + ".log")).spawn()
    print(server.url, server.grpc, server.metrics, flush=True)
    server.wait_ready()
    print("ready", flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    server.stop()
