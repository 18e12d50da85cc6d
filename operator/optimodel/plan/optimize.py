"""Fill a revision: the Job that compresses and proves it, its attempts, and what came out."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from .. import __version__
from ..api import contract, names
from ..api.conditions import OPTIMIZED, QUALITY_PASSED, Condition, merge
from ..api.contract import JobInput, Pins, Progress, Result, StepProgress
from ..api.status import Attempt, Failure, ModelRevisionStatus
from ..recipes import identity
from ..resources import job as jobs
from ..resources import pod as parts
from . import attempts, losses, pods, work, writes
from .attempts import Turn, stamp
from .revise import Target
from .segments import story
from .types import ComplaintTarget, Event, Manifest, ProgressTarget, Ref, Snapshot

AGAIN_LIMIT = 3
"""Attempts after failures of our own making, before a person is asked."""


@dataclass(frozen=True)
class Work:
    """What optimizing the target needs now, and what is known of it."""

    revision: ModelRevisionStatus
    """The target's status, as observed or as it is being written."""
    attempt: Attempt | None = None
    apply: tuple[dict[str, Any], ...] = ()
    write: ModelRevisionStatus | None = None
    delete: tuple[Ref, ...] = ()
    progress: tuple[ProgressTarget, ...] = ()
    complaints: tuple[ComplaintTarget, ...] = ()
    steps: tuple[StepProgress, ...] = ()
    failure: Failure | None = None
    """Why it does not get on, if so."""
    queued: str = ""
    """What it waits for, where a queue holds it."""
    terminal: bool = False
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None

    @property
    def deployable(self) -> bool:
        """Optimized, and every gate passed."""
        return self.revision.phase == "Optimized"

    @property
    def lost(self) -> bool:
        """Its artifact went from the store and is made again."""
        return losses.is_marked(self.revision)


def optimize(s: Snapshot, target: Target, *, retry: bool, gone: Failure | None = None) -> Work:
    """Plans the work on the target. `retry` = a person asked for another attempt; `gone` = its pods do not find its artifact."""
    known = target.revision.status if target.revision else ModelRevisionStatus()
    evaluation = identity.evaluation_hash(s.spec.optimization.gates, s.spec.data, s.spec.optimization.target.shapes)
    if retry and known.phase != "Pending":
        return _anew(s, target, known, evaluation)
    if known.phase == "Pending" or known.evaluation != evaluation:
        return _try(s, target, known, evaluation, retry=retry)
    loss = losses.read(s, known, target.hash, gone)
    if loss is None:
        return _done(s, target, known)
    if loss.wait == 0:
        return _anew(s, target, known, evaluation, loss)
    told = dataclasses.replace(_done(s, target, known), failure=loss.failure, terminal=loss.wait is None)
    return dataclasses.replace(told, requeue_after=loss.wait)


def _anew(
    s: Snapshot, target: Target, known: ModelRevisionStatus, evaluation: str, loss: losses.Loss | None = None
) -> Work:
    """Another attempt at a revision that is judged: its gates were missed, or its bytes are gone and nothing of it counts."""
    anew = known.phase == "Optimized"
    conditions = losses.marked(s, known) if anew else known.conditions
    remade = loss.times if loss else 0
    known = msgspec.structs.replace(known, phase="Pending", evaluation="", remade=remade, conditions=conditions)
    found = _try(s, target, known, evaluation, retry=True, anew=anew)
    if loss:
        text = (
            f"the artifact of revision {target.hash} went from the store and is made again ({remade} of {losses.LIMIT})"
        )
        found = dataclasses.replace(found, events=(Event("Warning", losses.MISSING, text), *found.events))
    return dataclasses.replace(found, write=known)


def _try(
    s: Snapshot, target: Target, known: ModelRevisionStatus, evaluation: str, *, retry: bool, anew: bool = False
) -> Work:
    """An attempt at a revision that is not judged."""
    if s.spec.suspend:
        return idle(s, target, known)
    found = attempts.turn(s, target, known, evaluation, retry=retry, anew=anew)
    attempt = found.attempt
    if attempt.failed:
        return Work(known, attempt, steps=s.status.steps, failure=s.status.last_failure, terminal=True)
    if attempt.retry_at:
        left = (datetime.fromisoformat(attempt.retry_at) - s.now).total_seconds()
        if left > 0:
            failure = s.status.last_failure
            return Work(known, attempt, steps=s.status.steps, failure=failure, requeue_after=left)
        found = attempts.again(found)
    return _run(s, known, found, evaluation)


def idle(s: Snapshot, target: Target | None, known: ModelRevisionStatus) -> Work:
    """Nothing is begun. A suspended object has no Job, whatever else keeps it from having one."""
    delete = _others(s, keep="") if s.spec.suspend else ()
    return Work(known, s.status.attempt, delete=delete, steps=_told(s, target))


def _told(s: Snapshot, target: Target | None) -> tuple[StepProgress, ...]:
    """The steps that status tells, while it tells of the same revision."""
    return s.status.steps if target is None or target.hash == s.status.revision else ()


def _done(s: Snapshot, target: Target, known: ModelRevisionStatus) -> Work:
    """The revision is judged; a Job of another revision that still runs is not wanted any more, and how that one's attempts
    went is forgotten with its failure: should it be asked for again, its last Job tells, or a new one."""
    rejected = known.phase == "Rejected"
    failure = _rejection(known) if rejected else None
    last = s.status.attempt
    return Work(
        known,
        last if last and last.revision == target.hash else None,
        delete=_others(s, keep="", live_only=True),
        steps=known.steps,
        failure=failure,
        terminal=rejected,
    )


def _rejection(known: ModelRevisionStatus) -> Failure:
    missed = [g for g in known.gates if g.verdict != "Pass"]
    reason = "GateFailed" if any(g.verdict == "Fail" for g in missed) else "GateInconclusive"
    said = "; ".join(
        f"{g.name} ({g.metric}) {g.verdict}: {g.message or f'{g.value} against {g.bound}'}" for g in missed
    )
    advised = any(g.message for g in missed)
    way_out = "" if advised else " Loosen the gate, give it more data, or change the steps."
    return Failure("gates", reason, f"{said.rstrip('.') or 'a gate was not met'}.{way_out}")


def _run(s: Snapshot, known: ModelRevisionStatus, turn: Turn, evaluation: str) -> Work:
    attempt = turn.attempt
    name = names.job(s.meta.name, attempt.revision, attempt.job_hash, attempt.number)
    job = next((j for j in s.jobs if j["metadata"]["name"] == name), None)
    state = work.read(job, s.pods, s.now, s.complaints.get(job["metadata"]["uid"], "") if job else "")
    delete = _others(s, keep=name, turn=turn)
    if state.state == "Absent":
        steps = s.status.steps if turn.number else ()
        if lacking := _image_lacking(s, turn):
            return Work(known, attempt, steps=steps, failure=lacking)
        if refused := writes.invalid_job(s, name):
            return _fail(
                s, known, turn, work.JobState("Failed", refused.reason, refused.message, refused.component, cure="Spec")
            )
        manifest = _job(s, turn, known, name, evaluation)
        begun = Event("Normal", "OptimizationStarted", f"Job {name} optimizes revision {attempt.revision}", name)
        return Work(known, attempt, apply=(manifest,), delete=delete, steps=steps, events=(begun,))
    if state.state == "Succeeded" and state.result and not state.result.artifact and not turn.last:
        return _advance(s, known, turn, state.result)
    if state.state == "Succeeded" or (
        state.result and state.result.gates and state.exit_code == contract.ExitCode.GATE
    ):
        return _finish(s, known, turn, state, evaluation)
    if state.state == "Failed":
        return _fail(s, known, turn, _kept_waiting(s, state))
    if state.state == "Queued":
        return Work(known, attempt, delete=delete, steps=s.status.steps, queued=state.message)
    page, targets = _page(s, name)
    failure = None
    if state.state == "Waiting":
        failure = Failure(state.component, state.reason, state.message, state.pod)
    soon = None if targets or failure else work.PODLESS.total_seconds() + 1
    return Work(
        known,
        attempt,
        delete=delete,
        progress=targets,
        complaints=_complaints(job) if state.reason == "PodNotCreated" else (),
        steps=_steps(s, turn, page) or s.status.steps,
        failure=failure,
        requeue_after=soon,
    )


def _complaints(job: Manifest | None) -> tuple[ComplaintTarget, ...]:
    return (ComplaintTarget(job["metadata"]["uid"], job["metadata"]["namespace"]),) if job else ()


def _steps(s: Snapshot, turn: Turn, now: tuple[StepProgress, ...]) -> tuple[StepProgress, ...]:
    """What is told of the steps: those of the Jobs before this one stay as they were."""
    return story(s.status.steps, now or s.status.steps) if turn.number else now


def _advance(s: Snapshot, known: ModelRevisionStatus, turn: Turn, result: Result) -> Work:
    """Its steps are in the store. The next Job is noted before it is made, so that a crash between the two makes it once."""
    event = Event("Normal", "StepsDone", result.message)
    return Work(known, attempts.after(s, turn, result.pins), steps=_steps(s, turn, result.steps), events=(event,))


def _image_lacking(s: Snapshot, turn: Turn) -> Failure | None:
    """An image that this Job or a later one names in vain: told before the first, not after a day of training."""
    have = s.platform.worker_images
    wanted = (part.worker_image for part in turn.segments[turn.number :])
    name = next((name for name in wanted if name and name not in have), None)
    if name is None:
        return None
    offered = f"offers {', '.join(sorted(have))}" if have else "offers none by name"
    text = (
        f"spec.optimization names worker image {name!r}, and the platform {offered}. Name another, or leave workerImage out for "
        f"the default; the platform's team adds it as images.workers.{name} of the chart."
    )
    return Failure("worker", "WorkerImageUnknown", text)


def _job(s: Snapshot, turn: Turn, known: ModelRevisionStatus, name: str, evaluation: str) -> dict[str, Any]:
    o, part = s.spec.optimization, turn.segment
    made = known.artifact
    pins = Pins(made.source_digest, made.data_digest, models=made.models) if made else turn.attempt.pins or Pins("")
    document = JobInput(
        model=s.meta.name,
        namespace=s.meta.namespace,
        revision=turn.target.hash,
        evaluation=evaluation,
        task=s.spec.task,
        source=s.spec.source,
        artifacts=s.spec.artifacts,
        steps=o.steps,
        auto=o.auto,
        gates=o.gates,
        data=s.spec.data,
        models=s.spec.models,
        shapes=o.target.shapes,
        accelerator=o.target.execution,
        batching=s.spec.serving.batching,
        pinned_source=pins.source or None,
        pinned_data=pins.data or None,
        pinned_models=pins.models,
        processes=part.processes,
        parallelism=o.parallelism,
        release=__version__,
        until=part.until,
    )
    return jobs.optimize_job(
        name=name,
        job=document,
        owner=parts.owner(s.meta.name, s.meta.uid),
        image=s.platform.worker_images[part.worker_image] if part.worker_image else s.platform.worker_image,
        pull_policy=s.platform.image_pull_policy,
        timeout=o.timeout,
        pod_template=part.pod_template,
        queue=o.queue_name,
    )


def _finish(s: Snapshot, known: ModelRevisionStatus, turn: Turn, state: work.JobState, evaluation: str) -> Work:
    result = state.result
    assert result is not None
    steps = _steps(s, turn, result.steps)
    passed = result.outcome == "Succeeded"
    said = (result.search.reason if result.search else result.message)[:500]
    done = "NoFeasibleRecipe" if result.reason == "NoFeasibleRecipe" else "Optimized"
    cleared = passed and all(gate.verdict == "Pass" for gate in result.gates)
    conditions = [
        Condition(OPTIMIZED, "True", done, said),
        Condition(QUALITY_PASSED, "True" if cleared else "False", "GatesPassed" if cleared else result.reason, ""),
    ]
    found = ModelRevisionStatus(
        observed_generation=1,
        conditions=merge(known.conditions, conditions, now=stamp(s.now)),
        phase="Optimized" if passed else "Rejected",
        artifact=result.artifact or known.artifact,
        evaluation=evaluation,
        gates=result.gates,
        figures=result.figures,
        search=result.search,
        steps=steps,
        report=result.report,
        remade=known.remade,
    )
    event = Event("Normal", done, said) if passed else Event("Warning", result.reason, result.message[:500])
    failure = None if passed else _rejection(found)
    return Work(found, turn.attempt, write=found, steps=steps, failure=failure, terminal=not passed, events=(event,))


def _fail(s: Snapshot, known: ModelRevisionStatus, turn: Turn, state: work.JobState) -> Work:
    attempt = turn.attempt
    failure = Failure(state.component, state.reason, state.message, state.pod, state.exit_code, stamp(s.now))
    event = Event("Warning", state.reason, state.message[:500])
    steps = _steps(s, turn, state.result.steps) if state.result else s.status.steps
    if state.cure == "Spec" or (state.cure == "Again" and attempt.number >= AGAIN_LIMIT):
        ended = msgspec.structs.replace(attempt, failed=True)
        return Work(known, ended, steps=steps, failure=failure, terminal=True, events=(event,))
    delay = attempts.delay(attempt.number) if state.cure == "World" else 5
    waiting = msgspec.structs.replace(attempt, retry_at=stamp(s.now + timedelta(seconds=delay)))
    return Work(known, waiting, steps=steps, failure=failure, events=(event,), requeue_after=delay)


def _kept_waiting(s: Snapshot, state: work.JobState) -> work.JobState:
    """A Job whose time ran out before its worker ever ran says what its pod waited for, and is made again: that may come."""
    last = s.status.last_failure
    ran = any(step.state == "Running" for step in s.status.steps)
    if state.reason != "Timeout" or last is None or last.component != "pod" or ran:
        return state
    late = ". The worker did not start within spec.optimization.timeout; another Job waits anew."
    text = last.message.removesuffix(late).removesuffix(".") + late
    return dataclasses.replace(state, reason=last.reason, message=text, component="pod", cure="World")


def _page(s: Snapshot, name: str) -> tuple[tuple[StepProgress, ...], tuple[ProgressTarget, ...]]:
    """The running worker's progress, and where to ask for more: the first of several processes knows all."""
    mine = [p for p in s.pods if p["metadata"].get("labels", {}).get("job-name") == name and not pods.index(p)]
    running = [p for p in mine if p.get("status", {}).get("phase") == "Running" and not pods.is_deleting(p)]
    targets = tuple(
        ProgressTarget(pods.uid(p), pods.address(p, contract.PROGRESS_PORT) + contract.PROGRESS_PATH)
        for p in running
        if pods.address(p, contract.PROGRESS_PORT)
    )
    seen: Progress | None = next((s.progress[pods.uid(p)] for p in running if pods.uid(p) in s.progress), None)
    return (tuple(_coarse(x) for x in seen.steps) if seen else ()), targets


def _coarse(step: StepProgress) -> StepProgress:
    """Progress worth a write: quarters of a long step, and the figures of a finished one."""
    if step.state != "Running":
        return step
    return StepProgress(step.name, step.state, step.percent // 25 * 25 if float(step.seconds) >= 30 else 0)


def _others(s: Snapshot, *, keep: str, live_only: bool = False, turn: Turn | None = None) -> tuple[Ref, ...]:
    """Optimization Jobs of this object other than `keep`. Finished ones stay for their logs with `live_only`, and where they did
    the steps before this `turn`."""

    def wanted(job: Manifest) -> bool:
        over = any(c["type"] in work.ENDING for c in job.get("status", {}).get("conditions", []))
        mine = job["metadata"]["labels"].get(names.COMPONENT) == "optimize"
        told = over and (live_only or (turn is not None and turn.earlier(s, job)))
        return mine and job["metadata"]["name"] != keep and not told and not pods.is_deleting(job)

    return tuple(ref(j) for j in s.jobs if wanted(j))


def ref(obj: Manifest) -> Ref:
    """Reference to a live object, guarded by its uid."""
    m = obj["metadata"]
    return Ref(obj["apiVersion"], obj["kind"], m.get("namespace", ""), m["name"], m["uid"])
