"""Whose turn it is: the Job that a revision needs now, and the number of the attempt at it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec

from ..api import names
from ..api.contract import Pins
from ..api.status import Attempt, ModelRevisionStatus
from ..recipes import identity
from .revise import Target
from .segments import Segment, segments
from .types import Manifest, Snapshot

FIRST_DELAY_S = 60
LAST_DELAY_S = 1800


def delay(number: int) -> int:
    """Seconds before what the world may mend is tried again, after so many tries."""
    return int(min(FIRST_DELAY_S * 2 ** (number - 1), LAST_DELAY_S))


def stamp(moment: datetime) -> str:
    """RFC 3339 with milliseconds, UTC."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Turn:
    """The attempt at one of the revision's Jobs, `number` of `segments`; `hashes` are theirs."""

    target: Target
    attempt: Attempt
    segments: tuple[Segment, ...]
    hashes: tuple[str, ...]

    @property
    def number(self) -> int:
        """Which of the Jobs it is, from 0."""
        return self.hashes.index(self.attempt.job_hash)

    @property
    def segment(self) -> Segment:
        """What the Job does."""
        return self.segments[self.number]

    @property
    def last(self) -> bool:
        """Whether the Job finishes the work."""
        return self.number == len(self.segments) - 1

    def earlier(self, s: Snapshot, job: Manifest) -> bool:
        """Whether a Job did what comes before this one's part."""
        done = (_prefix(s, self.target, found) for found in self.hashes[: self.number])
        return str(job["metadata"]["name"]).startswith(tuple(done))


def turn(
    s: Snapshot, target: Target, known: ModelRevisionStatus, evaluation: str, *, retry: bool, anew: bool = False
) -> Turn:
    """The attempt that goes on, or the first at the Job whose turn it is. `retry` = a person asked for another; `anew` = nothing
    that was done counts."""
    parts = segments(s.spec.optimization)
    hashes = tuple(_job_hash(s, evaluation, part) for part in parts)
    last = s.status.attempt
    mine = last if last and last.revision == target.hash else None
    begun = mine is not None and mine.job_hash in hashes
    if mine and begun and not retry:
        return Turn(target, mine, parts, hashes)
    pins = mine.pins if mine and not anew else None
    job_hash = mine.job_hash if mine and begun and not anew else hashes[_first(s, parts, known, pins, anew=anew)]
    number = _made(s, target, job_hash) + 1 if retry else 1
    return Turn(target, Attempt(target.hash, job_hash, number, pins=pins), parts, hashes)


def _first(
    s: Snapshot, parts: tuple[Segment, ...], known: ModelRevisionStatus, pins: Pins | None, *, anew: bool
) -> int:
    """The first of the Jobs with anything to do. A revision with an artifact has all its steps in the store."""
    if known.artifact and not anew:
        return len(parts) - 1
    steps = [step.name for step in s.spec.optimization.steps]
    done = steps.index(pins.step) if pins and pins.step in steps else -1
    return next(i for i, part in enumerate(parts) if part.until is None or steps.index(part.until) > done)


def after(s: Snapshot, turn: Turn, pins: Pins | None) -> Attempt:
    """The first attempt at the Job that follows."""
    job_hash = turn.hashes[turn.number + 1]
    return Attempt(turn.target.hash, job_hash, _made(s, turn.target, job_hash) + 1, pins=pins)


def again(turn: Turn) -> Turn:
    """The next attempt at the same Job."""
    attempt = msgspec.structs.replace(turn.attempt, number=turn.attempt.number + 1, retry_at="")
    return Turn(turn.target, attempt, turn.segments, turn.hashes)


def _job_hash(s: Snapshot, evaluation: str, part: Segment) -> str:
    o = s.spec.optimization
    return identity.job_hash(
        evaluation,
        source=s.spec.source,
        artifacts=s.spec.artifacts,
        data=s.spec.data,
        models=s.spec.models,
        pod_template=part.pod_template,
        timeout=o.timeout,
        processes=part.processes,
        parallelism=o.parallelism,
        queue=o.queue_name,
        until=part.until,
    )


def _prefix(s: Snapshot, target: Target, job_hash: str) -> str:
    """How the names of all attempts at a Job begin."""
    return names.job(s.meta.name, target.hash, job_hash, 0)[:-1]


def _made(s: Snapshot, target: Target, job_hash: str) -> int:
    """The highest attempt yet, also when the object was at another revision in between."""
    prefix = _prefix(s, target, job_hash)
    kept = [int(n[len(prefix) :]) for j in s.jobs if (n := j["metadata"]["name"]).startswith(prefix)]
    last = s.status.attempt
    told = [last.number] if last and (last.revision, last.job_hash) == (target.hash, job_hash) else []
    return max((*kept, *told), default=0)
