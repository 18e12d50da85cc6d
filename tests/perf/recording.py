"""`python -m tests.perf.recording FILE`: the operator, whose writes are also noted in FILE, one JSON document a line."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from optimodel import app
from optimodel.adapters.kube import Kube


class Recorded(msgspec.Struct):
    """One write, as it went over the wire. `verb` is apply, status, patch, delete or event."""

    verb: str
    kind: str
    method: str
    path: str
    body: dict[str, Any]
    content: str


class _Recording(Kube):
    target: Path

    async def _write(
        self, verb: str, kind: str, method: str, path: str, body: Mapping[str, Any], content: str = "application/json"
    ) -> dict[str, Any]:
        answer = await super()._write(verb, kind, method, path, body, content)
        with self.target.open("ab") as file:
            file.write(msgspec.json.encode(Recorded(verb, kind, method, path, dict(body), content)) + b"\n")
        return answer


if __name__ == "__main__":
    _Recording.target = Path(sys.argv[1])
    app.Kube = _Recording  # type: ignore[misc]
    sys.exit(app.main())
