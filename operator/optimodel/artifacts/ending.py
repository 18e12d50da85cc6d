"""How our short programs end: a small result document in the termination message, and an exit code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from optimodel.api.contract import TERMINATION_LIMIT, ExitCode, GateResult, Result, StepProgress

PATH_ENV = "OPTIMODEL_TERMINATION_LOG"


def leave(result: Result) -> None:
    """Write the result where Kubernetes looks for it (`OPTIMODEL_TERMINATION_LOG` elsewhere), in at most 4096 bytes."""
    path = Path(os.environ.get(PATH_ENV, "/dev/termination-log"))
    path.write_bytes(shortened(result))


def shortened(result: Result) -> bytes:
    """The document within the limit, all of its parts if they fit: a longer one would be cut by the kubelet and lost whole."""
    return next(data for less in _shorter(result) if len(data := msgspec.json.encode(less)) <= TERMINATION_LIMIT)


def _shorter(result: Result) -> Iterator[Result]:
    """The result with ever less in it, what a reader misses least first. Outcome, reason, artifact, figures, report and pins stay,
    and of the gates those longest that did not pass: they are why an artifact is not served."""
    replace = msgspec.structs.replace
    for limit in (1024, 600, 200):  # no longer text is read
        yield (result := _clipped(result, limit))
    yield (result := replace(result, steps=tuple(StepProgress(s.name, s.state) for s in result.steps)))
    passed = (_bare(g) if g.verdict == "Pass" else g for g in result.gates)
    yield (result := replace(result, gates=tuple(passed)))
    yield (result := _clipped(result, 80))
    yield (result := replace(result, steps=()))
    ranked = tuple(sorted(result.gates, key=lambda gate: ("Fail", "Inconclusive", "Pass").index(gate.verdict)))
    missed = sum(gate.verdict != "Pass" for gate in ranked)
    yield from (replace(result, gates=ranked[:most]) for most in range(len(ranked), missed - 1, -1))
    bare = tuple(map(_bare, ranked))
    yield from (replace(result, gates=bare[:most]) for most in range(missed, -1, -1))


def _bare(gate: GateResult) -> GateResult:
    return GateResult(gate.name, gate.metric, gate.verdict)


def _clipped(result: Result, limit: int) -> Result:
    """The result with texts of at most so many characters; what it says of itself keeps 200."""

    def clip(text: str, most: int = limit) -> str:
        return text if len(text) <= most else text[: most - 1] + "…"

    own, replace = max(limit, 200), msgspec.structs.replace
    return replace(
        result,
        message=clip(result.message, own),
        steps=tuple(replace(s, message=clip(s.message)) for s in result.steps),
        gates=tuple(replace(g, message=clip(g.message)) for g in result.gates),
        search=replace(result.search, reason=clip(result.search.reason, own)) if result.search else None,
    )


def fail(component: str, reason: str, message: str, world: bool) -> int:
    """Leave a failure and return the exit code for it."""
    print(f"{reason}: {message}", flush=True)
    leave(Result("Failed", reason, message, component))
    return int(ExitCode.WORLD if world else ExitCode.SPEC)
