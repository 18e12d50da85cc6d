"""What a person asks for by annotation: `VERB HASH[/STEP] [anything]`. Handled once, for the revision it names only."""

from __future__ import annotations

from .tick import Tick
from .weights import effective


def handle(t: Tick) -> None:
    """Applies a new action. One that cannot be applied is refused with an event; either way it is done with."""
    action = t.observed.action.strip()
    if not action or action == t.handled:
        return
    t.handled = action
    verb, _, rest = action.partition(" ")
    hash, _, step = (rest.split() or [""])[0].partition("/")
    refusal = _retry(t, hash) if verb == "retry" else _on_flight(t, verb, hash, step)
    if refusal:
        t.tell("ActionRefused", f"{action!r}: {refusal}", warn=True)


def _retry(t: Tick, hash: str) -> str:
    if hash not in t.failed:
        return f"revision {hash or '(none)'} has not failed"
    t.failed = tuple(h for h in t.failed if h != hash)
    t.tell("RetryRequested", f"revision {hash} may be tried again")
    return ""


def _on_flight(t: Tick, verb: str, hash: str, step: str) -> str:
    s = t.status
    if verb not in _VERBS:
        return "write approve HASH/STEP, promote HASH, abort HASH, pause HASH, resume HASH or retry HASH"
    if s is None or s.candidate != hash:
        return f"revision {hash or '(none)'} is not being rolled out"
    if s.phase in ("Retaining", "RollingBack"):
        return "the rollout is already " + ("promoted" if s.phase == "Retaining" else "going back")
    return _VERBS[verb](t, step)


def _approve(t: Tick, step: str) -> str:
    if step not in {x.name for x in t.spec.steps}:
        return f"there is no step {step!r}; write approve HASH/STEP"
    if step not in t.flight.approved:
        t.set(approved=(*t.flight.approved, step))
        t.tell("Approved", f"step {step} of revision {t.flight.candidate} was approved")
    return ""


def _promote(t: Tick, _: str) -> str:
    if t.flight.paused_from:
        t.enter(t.flight.paused_from, paused_from=None)
    t.set(promote=True)
    t.tell("PromoteRequested", f"revision {t.flight.candidate} skips its remaining steps")
    return ""


def _abort(t: Tick, _: str) -> str:
    if not t.flight.stable:
        return "there is no stable revision to go back to; change the spec or suspend the object"
    if t.seen(t.flight.stable).endpoints == 0 and t.seen(t.flight.candidate).endpoints > 0:
        return f"the stable revision has no ready endpoint and the new one answers: promote {t.flight.candidate} goes forward"
    t.back("Aborted", f"rollout of revision {t.flight.candidate} was aborted", failure=True)
    return ""


def _pause(t: Tick, _: str) -> str:
    if t.flight.phase in ("Paused", "Promoting"):
        return f"a rollout that is {t.flight.phase} cannot be paused"
    t.enter("Paused", paused_from=t.flight.phase)
    t.tell("Paused", f"rollout of revision {t.flight.candidate} is paused at {t.flight.weight} %")
    return ""


def _resume(t: Tick, _: str) -> str:
    if t.flight.phase != "Paused":
        return "the rollout is not paused"
    t.enter(effective(t.flight), paused_from=None)
    t.tell("Resumed", f"rollout of revision {t.flight.candidate} goes on")
    return ""


_VERBS = {"approve": _approve, "promote": _promote, "abort": _abort, "pause": _pause, "resume": _resume}
