"""How an optimization Job stands: one reading of the Job and its pods."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from ..api import names
from ..api.contract import ExitCode, Result
from . import pods
from .types import Manifest

ENDING = ("SuccessCriteriaMet", "Complete", "FailureTarget", "Failed")
"""Conditions of a Job whose outcome is certain."""
PODLESS = timedelta(seconds=20)
"""Longest time in which a Job that began has no pod."""

CONSEQUENCES = ("PeerLost", "Interrupted")
"""Reasons by which a process of several tells that another ended."""

State = Literal["Absent", "Queued", "Waiting", "Running", "Succeeded", "Failed"]
Cure = Literal["Spec", "World", "Again"]
"""What helps after a failure: a changed spec, time, or simply another attempt."""


@dataclass(frozen=True)
class JobState:
    """State of a Job. `reason` and `message` explain Queued, Waiting and Failed; `result` is what the worker left, if anything."""

    state: State
    reason: str = ""
    message: str = ""
    component: str = "worker"
    pod: str = ""
    exit_code: int | None = None
    cure: Cure = "World"
    result: Result | None = None


def read(job: Manifest | None, all_pods: Iterable[Manifest], now: datetime, complaint: str = "") -> JobState:
    """The state of an optimization Job; `all_pods` may hold pods of others, `complaint` is what keeps it from having any."""
    if job is None:
        return JobState("Absent")
    name = job["metadata"]["name"]
    mine = _telling(p for p in all_pods if p["metadata"].get("labels", {}).get("job-name") == name)
    conditions = {c["type"]: c for c in job.get("status", {}).get("conditions", []) if c.get("status") == "True"}
    failed = conditions.get("Failed") or conditions.get("FailureTarget")
    complete = "Complete" in conditions or "SuccessCriteriaMet" in conditions
    if (complete or failed) and any(map(_works, mine)):
        return JobState("Running")
    if complete:
        return _succeeded(next((told for told in _told(mine) if told.outcome == "Succeeded"), None))
    if failed:
        return _failed(failed.get("reason", ""), mine, _cause(mine))
    if job["spec"].get("suspend"):
        return JobState("Queued", "Queued", _queued(job))
    if (
        not mine
        and "startTime" in job.get("status", {})
        and now - datetime.fromisoformat(job["status"]["startTime"]) > PODLESS
    ):
        return JobState("Waiting", "PodNotCreated", _podless(name, complaint), "pod")
    held = pods.trouble(p for p in mine if p.get("status", {}).get("phase") == "Pending")
    if held:
        return JobState("Waiting", held.reason, held.message, "pod", held.pod)
    return JobState("Running")


def _podless(name: str, complaint: str) -> str:
    if not complaint:
        return f"Job {name} has no pod: a quota or an admission rule refuses it. See kubectl describe job {name}."
    return f"Job {name} has no pod, the API server says: {pods.not_let_in(complaint)}. Mend that; the pod is then made by itself."


def _queued(job: Manifest) -> str:
    queue = job["metadata"].get("labels", {}).get(names.QUEUE, "")
    held = f"waits in queue {queue} until Kueue admits it" if queue else "is suspended; set its spec.suspend to false"
    return f"Job {job['metadata']['name']} {held}"


def _works(pod: Manifest) -> bool:
    """As far as we have seen. Of a Job that has ended, the news of the pod's own end, with its result, is on its way."""
    return pod.get("status", {}).get("phase") in ("Pending", "Running") and not pods.is_deleting(pod)


def _succeeded(result: Result | None) -> JobState:
    if result is None:
        return JobState(
            "Failed",
            "ResultLost",
            "The worker finished but its result is gone; it is looked up in the store.",
            cure="Again",
        )
    return JobState("Succeeded", result.reason, result.message, result=result)


def _failed(reason: str, mine: Sequence[Manifest], result: Result | None) -> JobState:
    if reason == "DeadlineExceeded":
        text = "The worker did not finish within spec.optimization.timeout. Raise it, or choose a smaller model."
        return JobState("Failed", "Timeout", text, cure="Spec")
    held = pods.trouble(mine)
    pod, code = (held.pod, held.exit_code) if held else ("", None)
    if result is not None:
        pod, code = _teller(mine, result) or (pod, code)
        return JobState("Failed", result.reason, result.message, result.component, pod, code, _cure(code), result)
    if held and held.reason == "OutOfMemory":
        text = (
            "The worker ran out of memory. Raise spec.optimization.podTemplate.resources.limits.memory, or that of the step's "
            "entry in podTemplates."
        )
        return JobState("Failed", "OutOfMemory", text, "worker", pod, code, "Spec")
    text = held.text.strip()[-600:] if held else ""
    return JobState(
        "Failed", "WorkerFailed", text or "The worker's pod was killed or lost.", "worker", pod, code, "Again"
    )


def _cure(code: int | None) -> Cure:
    if code in (ExitCode.SPEC, ExitCode.GATE):
        return "Spec"
    return "World" if code == ExitCode.WORLD else "Again"


def _teller(mine: Sequence[Manifest], result: Result) -> tuple[str, int] | None:
    """The pod that left the result and how it ended, also if it is on its way out: told to stop, it was deleted."""
    for pod in mine:
        if left(pod) == result and (ended := pods.ended(pod, "worker")):
            return str(pod["metadata"]["name"]), int(ended.get("exitCode", 0))
    return None


def _telling(mine: Iterable[Manifest]) -> list[Manifest]:
    """The Job's pods, those first that tell of a cause, then those that left nothing, and last those that only tell of another's
    end; each by index. The first that failed decides what helps."""

    def rank(pod: Manifest) -> int:
        told = left(pod)
        return 1 if told is None else 2 if told.reason in CONSEQUENCES else 0

    return sorted(mine, key=lambda pod: (rank(pod), pods.index(pod)))


def _told(mine: Sequence[Manifest]) -> list[Result]:
    """What the pods left: also those that others stand in for, since a disrupted pod does not count for its Job."""
    return [told for pod in mine if (told := left(pod))]


def _cause(mine: Sequence[Manifest]) -> Result | None:
    """Why a Job failed. Where one process just vanished, that is the cause, and not what the others say of it."""
    found = [told for told in _told(mine) if told.outcome == "Failed"]
    caused = [told for told in found if told.reason not in CONSEQUENCES]
    killed = any(held.exit_code for p in mine if not left(p) and (held := pods.trouble([p])))
    return next(iter(caused or ([] if killed else found)), None)


def left(pod: Manifest, container: str = "worker") -> Result | None:
    """The result document that a program of ours left, if it has ended and did."""
    ended = pods.ended(pod, container)
    if not ended or not ended.get("message"):
        return None
    try:
        return msgspec.json.decode(ended["message"], type=Result)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
