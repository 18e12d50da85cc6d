"""How our short programs end: a small result document in the termination message, and an exit code."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from optimodel.api.contract import TERMINATION_LIMIT, ExitCode, Result, StepProgress

PATH_ENV = "OPTIMODEL_TERMINATION_LOG"


def leave(result: Result) -> None:
    """Write the result where Kubernetes looks for it (`OPTIMODEL_TERMINATION_LOG` elsewhere), in at most 4096 bytes."""
    path = Path(os.environ.get(PATH_ENV, "/dev/termination-log"))
    path.write_bytes(shortened(result))


def shortened(result: Result) -> bytes:
    """The document within the limit: messages are cut, the longest first."""
    data = msgspec.json.encode(result)
    for limit in (600, 200, 80, 0):
        if len(data) <= TERMINATION_LIMIT:
            break
        data = msgspec.json.encode(_cut(result, limit))
    return data


def _cut(result: Result, limit: int) -> Result:
    def clip(text: str, most: int = limit) -> str:
        return text if len(text) <= most else text[: max(most - 1, 0)] + "…"

    steps: tuple[StepProgress, ...] = tuple(msgspec.structs.replace(s, message=clip(s.message)) for s in result.steps)
    gates = tuple(msgspec.structs.replace(g, message=clip(g.message)) for g in result.gates)
    return msgspec.structs.replace(result, message=clip(result.message, max(limit, 200)), steps=steps, gates=gates)


def fail(component: str, reason: str, message: str, world: bool) -> int:
    """Leave a failure and return the exit code for it."""
    print(f"{reason}: {message}", flush=True)
    leave(Result("Failed", reason, message, component))
    return int(ExitCode.WORLD if world else ExitCode.SPEC)
