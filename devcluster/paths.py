"""Where things that outlive a checkout are kept, and the keys they are kept under."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("OPTIMODEL_CACHE") or Path.home() / ".cache" / "optimodel").expanduser().absolute()
BIN = CACHE / "bin"
CLUSTER = CACHE / "cluster"


def digest(*parts: bytes | str | Path) -> str:
    """Return a short content hash of the parts; a ``Path`` stands for the content of that file."""
    total = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "big") + data)
    return total.hexdigest()[:16]
