"""A small server that speaks the hub's protocol: model info, file heads and ranged downloads of one commit."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

COMMIT = "3f2c9abf00000000000000000000000000000000"


@dataclass
class Hub:
    """The server's state, which a test may change: `token` guards it, `cut` sends files short, `extra` lists more names."""

    folder: Path
    repo: str = "org/tiny"
    token: str = ""
    cut: int = 0
    extra: tuple[str, ...] = ()
    endpoint: str = ""
    asked: list[str] = field(default_factory=list)

    def files(self) -> dict[str, bytes]:
        return {p.relative_to(self.folder).as_posix(): p.read_bytes() for p in self.folder.rglob("*") if p.is_file()}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = urlsplit(self.path).path
            hub.asked.append(f"{self.command} {path}")
            if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                self.send(401, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"}, body)
            elif path in (f"/api/models/{hub.repo}/revision/{r}" for r in ("main", COMMIT)):
                self.send(200, json.dumps(self.info()).encode(), {"Content-Type": "application/json"}, body)
            elif path.startswith(f"/api/models/{hub.repo}/revision/"):
                self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body)
            elif path.startswith(f"/{hub.repo}/resolve/{COMMIT}/"):
                self.file(path.split("/", 5)[5], body)
            else:
                self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)

        def info(self) -> dict[str, Any]:
            names = [{"rfilename": name, "size": len(data)} for name, data in hub.files().items()]
            names += [{"rfilename": name, "size": 1} for name in hub.extra]
            return {"id": hub.repo, "modelId": hub.repo, "sha": COMMIT, "siblings": names}

        def file(self, name: str, body: bool) -> None:
            data = hub.files().get(name)
            if data is None:
                self.send(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
                return
            tag = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            wanted = self.headers.get("Range")
            if wanted:
                begin = int(wanted.removeprefix("bytes=").split("-")[0])
                tag["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
                self.send(206, data[begin:], tag, body)
            else:
                self.send(200, data, tag, body)

        def send(self, status: int, data: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body:
                keep = data[: len(data) - hub.cut] if hub.cut and len(data) > 4096 else data
                self.wfile.write(keep)
                self.close_connection = self.close_connection or len(keep) < len(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
