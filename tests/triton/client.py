"""Small clients for what a user of the served model sends."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

import numpy as np
import tritonclient.grpc as grpcclient

from optimodel.adapters.inference import Inference
from optimodel.adapters.polling import PodHttp
from optimodel.plan.types import ProbeResult, ProbeTarget

from .server import Server


def post(server: Server, document: object, model: str = "questions") -> tuple[int, dict[str, Any]]:
    """Status and body of one inference request over HTTP."""
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    request = urllib.request.Request(f"{server.url}/v2/models/{model}/infer", data)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def text_request(texts: list[str], name: str = "TEXT") -> dict[str, Any]:
    return {"inputs": [{"name": name, "shape": [len(texts), 1], "datatype": "BYTES", "data": texts}]}


def http(server: Server, texts: list[str], output: str = "EMBEDDING") -> np.ndarray:
    """The answers to one request of several texts."""
    status, body = post(server, text_request(texts))
    assert status == 200, body
    (found,) = [o for o in body["outputs"] if o["name"] == output]
    return np.array(found["data"]).reshape(found["shape"])


async def judged(server: Server, text: str, output: str, head: Sequence[object], **more: Any) -> ProbeResult:
    """What the operator says when an answer's first values are to be `head`, within 0.001 if nothing is said."""
    tolerance = more.pop("tolerance", "0.001")
    target = ProbeTarget("uid", server.url, "questions", text, output, tuple(map(str, head)), tolerance, **more)
    http = PodHttp()
    try:
        return await Inference(http).ask(target)
    finally:
        await http.close()


def grpc(client: grpcclient.InferenceServerClient, texts: list[bytes], output: str = "EMBEDDING") -> np.ndarray:
    """The same over gRPC; texts are bytes as they go over the wire."""
    tensor = grpcclient.InferInput("TEXT", [len(texts), 1], "BYTES")
    tensor.set_data_from_numpy(np.array(texts, dtype=object).reshape(-1, 1))
    return client.infer("questions", [tensor], client_timeout=60).as_numpy(output)
