"""A hub inside the cluster that speaks just enough of the protocol to offer a file outside its folder."""

from __future__ import annotations

from typing import Any

PORT = 8080
SCRIPT = """
import http.server, json

FILES = ["config.json", "model.safetensors", "tokenizer.json", "../../escape.json"]
INFO = {"id": "org/escape", "sha": "0" * 40, "siblings": [{"rfilename": name, "size": 10} for name in FILES]}

class Hub(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(INFO).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer(("", 8080), Hub).serve_forever()
"""


def documents(namespace: str, image: str) -> list[dict[str, Any]]:
    """A pod and its Service `hub`; `image` needs Python only."""
    meta = {"name": "hub", "namespace": namespace, "labels": {"app": "hub"}}
    closed = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    user = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {"name": "hub", "image": image, "command": ["python3", "-c", SCRIPT], "securityContext": closed}
    pod = {"containers": [container], "securityContext": user, "automountServiceAccountToken": False}
    service = {"selector": {"app": "hub"}, "ports": [{"port": PORT, "targetPort": PORT}]}
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service},
    ]
