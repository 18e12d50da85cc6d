"""An artifact that went from the store after it was published: when it is made again unasked, and how often."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from ..api import conditions as c
from ..api import names
from ..api.conditions import Condition
from ..api.status import Failure, ModelRevisionStatus
from .attempts import delay, stamp
from .types import Snapshot

MISSING = "ArtifactMissing"
LIMIT = 6
"""Times in a row that it is made again, each gone within a day: by then somebody takes away what we make."""
CALM = timedelta(days=1)
"""What stayed for so long begins a new row."""


@dataclass(frozen=True)
class Loss:
    """A lost artifact. `times` counts this making; `wait` is the seconds until it, 0 = now, None = only when asked."""

    failure: Failure
    times: int
    wait: float | None


def read(s: Snapshot, known: ModelRevisionStatus, hash: str, gone: Failure | None) -> Loss | None:
    """What to do about a revision whose pods say that its artifact is `gone`; None = nothing, or nothing new since it was made."""
    if gone is None or known.phase != "Optimized" or s.spec.suspend:
        return None
    made = c.find(known.conditions, c.OPTIMIZED)
    since = datetime.fromisoformat(made.last_transition_time) if made and made.last_transition_time else None
    if since is None:
        return Loss(gone, 1, 0)
    if gone.time and datetime.fromisoformat(gone.time) <= since:
        return None
    given_up = (told := c.find(s.status.conditions, c.STALLED)) is not None and told.reason == MISSING
    times = (known.remade if given_up or s.now - since < CALM else 0) + 1
    if times > LIMIT:
        text = f"It was made again {LIMIT} times and went each time: find out who deletes there, then annotate {names.ACTION}: retry {hash}"
        return Loss(_with(gone, text), times, None)
    due = since + timedelta(seconds=delay(times))
    text = f"It is made again at {stamp(due)}."
    return Loss(_with(gone, text), times, max(0.0, (due - s.now).total_seconds()))


def _with(gone: Failure, text: str) -> Failure:
    return Failure(gone.component, gone.reason, f"{gone.message} {text}", gone.pod, gone.exit_code, gone.time)


def marked(s: Snapshot, known: ModelRevisionStatus) -> tuple[Condition, ...]:
    """The revision's conditions while it is made again."""
    lost = Condition(c.OPTIMIZED, "False", MISSING, "the artifact went from the store and is made again")
    others = (x for x in known.conditions if x.type != c.OPTIMIZED)
    return c.merge(known.conditions, (*others, lost), now=stamp(s.now))


def is_marked(known: ModelRevisionStatus) -> bool:
    """Whether the revision's artifact went and is made again."""
    found = c.find(known.conditions, c.OPTIMIZED)
    return found is not None and found.reason == MISSING
