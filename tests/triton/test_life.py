"""How a server starts, proves itself, drains and refuses to start."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from optimodel.api.spec import Batching
from optimodel.repository import PROBE, Settings, write

from . import client
from .conftest import serve
from .server import Server, free_ports

SLOW = "a long question about many things " * 100


def probe(server: Server, port: int | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-S", "-E", str(server.repository / PROBE), str(port or server.http)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


async def test_probe_passes_on_a_real_answer_and_the_operator_knows_it(encoder: Server) -> None:
    assert probe(encoder).returncode == 0
    head = client.http(encoder, ["how many rivers"])[0][:8]
    assert (await client.judged(encoder, "how many rivers", "EMBEDDING", head)).ok
    wrong = await client.judged(encoder, "how many rivers", "EMBEDDING", [head[0] + 0.1])
    assert "value 0 of EMBEDDING" in wrong.message


def test_probe_passes_on_labels_too(classifier: Server) -> None:
    assert probe(classifier).returncode == 0


def test_probe_fails_where_nobody_or_another_model_answers(encoder: Server, classifier: Server) -> None:
    assert "refused" in probe(encoder, port=free_ports(1)[0]).stderr
    other = probe(encoder, port=classifier.http)
    assert other.returncode == 1
    assert "EMBEDDING has 0 values" in other.stderr


def test_probe_fails_when_a_process_behind_the_server_is_gone(classification: Path, tmp_path: Path) -> None:
    with serve(classification, tmp_path, Batching(1)) as server:
        assert probe(server).returncode == 0
        assert server.process
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        stubs = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in children}
        (core,) = [int(pid) for pid, arguments in stubs.items() if "onnxruntime" in arguments]
        os.kill(core, signal.SIGKILL)
        assert "HTTP 500" in probe(server).stderr


def test_nothing_in_the_repository_is_mistaken_for_a_model(encoder: Server) -> None:
    assert "poll failed" not in encoder.log.lower()


def test_sigterm_lets_requests_under_way_finish(embedding: Path, tmp_path: Path) -> None:
    server = serve(embedding, tmp_path, Batching(8))
    with server, ThreadPoolExecutor(4) as pool:
        connections = [http.client.HTTPConnection("127.0.0.1", server.http, timeout=30) for _ in range(4)]
        body = json.dumps(client.text_request([SLOW] * 8))
        for connection in connections:
            connection.request("POST", "/v2/models/questions/infer", body, {"Connection": "close"})
        wait_pending(server, len(connections) - 1)
        assert server.process
        server.process.send_signal(signal.SIGTERM)
        answers = list(pool.map(lambda c: c.getresponse(), connections))
        assert [a.status for a in answers] == [200] * 4
        for answer, connection in zip(answers, connections, strict=True):
            answer.read()
            connection.close()
        assert server.process.wait(25) == 0


def wait_pending(server: Server, count: int) -> None:
    """Return once as many requests wait behind a running one: those that the server has not read yet are not its own."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        pending = [line for line in metrics(server) if line.startswith("nv_inference_pending")]
        if sum(float(line.rsplit(" ", 1)[1]) for line in pending) >= count:
            return
        time.sleep(0.002)
    raise AssertionError(f"never were {count} requests pending")


def metrics(server: Server) -> list[str]:
    """Lines of the metrics page; none while its port, which opens after the health check's, is closed."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.metrics, timeout=5)) as connection:
        try:
            connection.request("GET", "/metrics")
        except ConnectionRefusedError:
            return []
        return connection.getresponse().read().decode().splitlines()


STARTS = 3
"""Triton 2.51 sometimes dies of SIGSEGV while it fails to load, before it says why; kubelet would start it again."""


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("model.onnx", b"not a graph", "Protobuf parsing failed"),
        ("tokenizer.json", b"{}", "tokenizer"),
        ("model.onnx", None, "Invalid argument|INVALID_ARGUMENT|InvalidArgument"),
    ],
    ids=["corrupt-graph", "corrupt-tokenizer", "other-interface"],
)
def test_a_model_that_cannot_load_ends_the_server_with_the_reason(
    embedding: Path, classification: Path, tmp_path: Path, file: str, content: bytes | None, says: str
) -> None:
    artifact = tmp_path / "artifact"
    shutil.copytree(embedding, artifact)
    (artifact / file).write_bytes((classification / file).read_bytes() if content is None else content)
    for _ in range(STARTS):
        server = serve(artifact, tmp_path, Batching(8))
        with pytest.raises(RuntimeError, match=r"tritonserver ended with (1|-11)"):
            server.__enter__()
        if any(word in server.log for word in says.split("|")):
            return
    raise AssertionError(f"no start said {says}")


@pytest.mark.parametrize("accelerator", ["CUDA", "TensorRT"])
def test_a_graph_for_a_gpu_is_not_served_without_one(embedding: Path, tmp_path: Path, accelerator: str) -> None:
    """The real server reads what is written for a GPU, and ends where it has none: nothing answers from a CPU instead."""
    settings = Settings("questions", Batching(8), threads=2, accelerator=accelerator)  # type: ignore[arg-type]
    write(embedding, settings, tmp_path / "models")
    server = Server(tmp_path / "models", tmp_path / "triton.log")
    with pytest.raises(RuntimeError, match=r"tritonserver ended with (1|-11)"):
        server.__enter__()
    print(server.log[-1500:])
    assert "GPU" in server.log
