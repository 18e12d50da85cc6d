"""The steps cut into Jobs: where the wanted pods change, the next Job begins. What one has made, the next finds in the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ..api.contract import StepProgress
from ..api.spec import EVALUATE, Optimization
from ..api.struct import plain
from ..recipes import search, trains


@dataclass(frozen=True)
class Segment:
    """What one Job does: all up to and including the step `until`; None = all there is, evaluated and published."""

    until: str | None
    pod_template: dict[str, Any] | None
    processes: int

    @property
    def worker_image(self) -> str | None:
        """Which of the platform's images it runs, by name; None = the default."""
        return (self.pod_template or {}).get("workerImage")


def segments(o: Optimization) -> tuple[Segment, ...]:
    """The Jobs in their order, at least one. Evaluation goes with the last step, unless a template names it."""
    if not o.pod_templates:
        return (Segment(None, o.pod_template, o.processes),)
    steps = [step.name for step in o.steps]
    pods = {name: _pods(o, name) for name in steps}
    named = any(EVALUATE in template.steps for template in o.pod_templates)
    pods[EVALUATE] = _pods(o, EVALUATE) if named else pods[steps[-1]]
    jobs = [tuple(names) for _, names in groupby(pods, key=pods.__getitem__)]
    return tuple(
        Segment(None if EVALUATE in job else job[-1], pods[job[-1]], o.processes if _trains(o, job) else 1)
        for job in jobs
    )


def _pods(o: Optimization, name: str) -> dict[str, Any] | None:
    """The pod template of a step: the one that names it, else the one for the rest."""
    rest = [template for template in o.pod_templates if not template.steps]
    found = [template for template in o.pod_templates if name in template.steps] or rest
    return {k: v for k, v in plain(found[0]).items() if k != "steps"} or None if found else None


def _trains(o: Optimization, job: Sequence[str]) -> bool:
    """Whether several processes have anything to do in a Job. The search runs ahead of the last step."""
    searched = search.prunings(o.auto) if o.steps[-1].name in job else ()
    return any(map(trains, (*(step for step in o.steps if step.name in job), *searched)))


def story(before: Sequence[StepProgress], now: Sequence[StepProgress]) -> tuple[StepProgress, ...]:
    """What a Job tells of the steps, continuing what was told of the Jobs before it: what one of them did stays told as it was,
    unless it is done again."""
    done = {step.name: step for step in before if step.state in ("Done", "Cached")}
    return tuple(done.get(step.name, step) if step.state in ("Pending", "Cached") else step for step in now)
