"""What pods say of themselves: readiness, and why they do not get on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .types import Manifest

KILLED = 137
"""Exit code of SIGKILL: an eviction, a lost node, a failed liveness probe. Memory says so by its own reason."""

_PULL = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
_SECRET = re.compile(r'secret "([^"]+)" not found')
_KEY = re.compile(r"couldn't find key (\S+) in Secret \S+?/(\S+)")
_EXTENDED = re.compile(r"Insufficient ([\w.-]+/[\w.-]*\w)")
_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" not found')

_TRIED = re.compile(r'^(\(combined from similar events\): )?(Error creating: )?(pods "[^"]*" is forbidden: )?')
"""How a controller begins to tell it: the name of a pod is made anew for each."""


@dataclass(frozen=True)
class Trouble:
    """Why a pod does not get on. `exit_code` is set when a container ended; `text` is what it left behind."""

    reason: str
    message: str
    pod: str = ""
    container: str = ""
    exit_code: int | None = None
    text: str = ""
    ended: str = ""
    """When the container ended; RFC 3339."""


def not_let_in(said: str) -> str:
    """What the API server says to pods that a controller asks for, without what is another at each try."""
    return _TRIED.sub("", said.strip())[:400].rstrip(".")


def uid(pod: Manifest) -> str:
    """The pod's uid."""
    return str(pod["metadata"]["uid"])


def index(pod: Manifest) -> int:
    """The pod's number in an indexed Job; 0 in any other."""
    return int(pod["metadata"].get("labels", {}).get("batch.kubernetes.io/job-completion-index", 0))


def is_deleting(obj: Manifest) -> bool:
    """Whether the object is on its way out."""
    return "deletionTimestamp" in obj["metadata"]


def is_ready(pod: Manifest) -> bool:
    """The pod's Ready condition, and not being deleted."""
    return not is_deleting(pod) and _condition(pod, "Ready").get("status") == "True"


def address(pod: Manifest, port: int) -> str:
    """Base URL of a port of the pod; empty while it has no address."""
    ip = pod.get("status", {}).get("podIP", "")
    host = f"[{ip}]" if ":" in ip else ip
    return f"http://{host}:{port}" if ip else ""


def ended(pod: Manifest, container: str) -> Mapping[str, Any] | None:
    """The terminated state of a container, if it has ended for good."""
    for status in _statuses(pod):
        if status["name"] == container:
            return status.get("state", {}).get("terminated")  # type: ignore[no-any-return]
    return None


def trouble(pods: Iterable[Manifest]) -> Trouble | None:
    """The first thing that keeps the pods from running, in terms of what to do; None while they simply get on."""
    for pod in pods:
        if is_deleting(pod):
            continue
        found = next(_troubles(pod), None)
        if found:
            return found
    return None


def _troubles(pod: Manifest) -> Iterator[Trouble]:
    name = pod["metadata"]["name"]
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        yield _unschedulable(name, scheduled.get("message", ""))
    for status in _statuses(pod):
        container = status["name"]
        waiting = status.get("state", {}).get("waiting") or {}
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        if reason in _PULL:
            image = status.get("image") or _image(pod, container)
            text = f"image {image} of container {container} cannot be pulled. Check its name and the pull secrets; it is tried again."
            yield Trouble("ImagePullFailed", text, name, container)
        elif reason in ("CreateContainerConfigError", "CreateContainerError"):
            yield _config(name, container, message)
        last = status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated")
        if last and last.get("exitCode", 0) != 0 and not status.get("ready"):
            yield _exited(name, container, last)


def _exited(pod: str, container: str, last: Mapping[str, Any]) -> Trouble:
    code, text, ended = int(last.get("exitCode", 1)), str(last.get("message", "")), str(last.get("finishedAt") or "")
    if last.get("reason") == "OOMKilled":
        message = f"container {container} ran out of memory. Raise its memory limit."
        return Trouble("OutOfMemory", message, pod, container, code, text, ended)
    said = "was killed" if code == KILLED else f"ended with code {code}"
    return Trouble("ContainerFailed", f"container {container} {said}", pod, container, code, text, ended)


def _unschedulable(pod: str, message: str) -> Trouble:
    claim = _CLAIM.search(message)
    if claim:
        return Trouble(
            "ClaimNotFound",
            f"PersistentVolumeClaim {claim[1]} does not exist. Create it; the pod then starts by itself.",
            pod,
        )
    text = f"no node can take the pod: {message[:300]}"
    if lacking := _EXTENDED.search(message):
        text = (
            f"no node has {lacking[1]} free. Add such a node, free one, or give the runtime another acceleratorResource; the pod "
            f"then starts by itself. {message[:200]}"
        )
    return Trouble("Unschedulable", text, pod)


def _config(pod: str, container: str, message: str) -> Trouble:
    key, secret = _KEY.search(message), _SECRET.search(message)
    if key:
        text = f"Secret {key[2]} has no key {key[1]}. Add it; the pod then starts by itself."
        return Trouble("SecretKeyMissing", text, pod, container)
    if secret:
        return Trouble(
            "SecretNotFound",
            f"Secret {secret[1]} does not exist. Create it; the pod then starts by itself.",
            pod,
            container,
        )
    return Trouble("ContainerConfigError", message[:300], pod, container)


def _statuses(pod: Manifest) -> Iterator[Mapping[str, Any]]:
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses", [])
    yield from status.get("containerStatuses", [])


def _image(pod: Manifest, container: str) -> str:
    spec = pod.get("spec", {})
    every = [*spec.get("initContainers", []), *spec.get("containers", [])]
    return next((str(c.get("image", "")) for c in every if c["name"] == container), "")


def _condition(pod: Manifest, type: str) -> Mapping[str, Any]:
    conditions = pod.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == type), {})
