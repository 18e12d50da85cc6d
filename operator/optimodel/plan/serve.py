"""Serve revisions: the Deployment, Service and autoscaler of each, and what its pods answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ..api import conditions as c
from ..api import names
from ..api.contract import Artifact, PullInput
from ..api.spec import Batching
from ..api.status import Failure
from ..resources import pod as parts
from ..resources.autoscaler import autoscaler
from ..resources.deployment import Serve, deployment, keep_replicas, patience
from ..resources.service import HTTP_PORT, service
from ..rollout import Seen
from . import pods
from .optimize import ref
from .types import Manifest, ProbeTarget, Ref, Revision, Snapshot

_STAMP = re.compile(r"^[A-Z]\d{4} [\d:.]+ \d+ \S+\] ")
"""What Triton puts before a line of its log; another at each crash."""


@dataclass(frozen=True)
class Serving:
    """Objects of the revisions that are to be served, and the pods whose answer is still awaited."""

    apply: tuple[dict[str, Any], ...]
    handover: tuple[dict[str, Any], ...]
    delete: tuple[Ref, ...]
    probes: tuple[ProbeTarget, ...]


def observe(s: Snapshot) -> dict[str, Seen]:
    """Every revision of which a Deployment exists, by hash. A revision that was never stable counts the pods whose golden
    answer came back; while nothing is known of a pod (a restart of ours), a candidate that was found to answer keeps counting."""
    return {_hash(d): _seen(s, d) for d in s.deployments if not pods.is_deleting(d)}


def _seen(s: Snapshot, found: Manifest) -> Seen:
    hash = _hash(found)
    ready = [p for p in serving_pods(s, hash) if pods.is_ready(p)]
    if hash != s.status.stable_revision:
        r = s.status.rollout
        trusted = r is not None and r.candidate == hash and (r.paused_from or r.phase) != "Preparing"
        ready = [p for p in ready if _answers(s, p, default=trusted)]
    return Seen(bool(ready), len(ready), int(found.get("spec", {}).get("replicas", 1)))


def _answers(s: Snapshot, pod: Manifest, *, default: bool) -> bool:
    result = s.probes.get(pods.uid(pod))
    return default if result is None else result.ok


def serving_pods(s: Snapshot, hash: str) -> list[Manifest]:
    """Triton pods of a revision."""
    wanted = {names.REVISION: hash, names.COMPONENT: "serve"}
    return [p for p in s.pods if wanted.items() <= p["metadata"].get("labels", {}).items()]


def serve(s: Snapshot, hashes: Iterable[str], floors: Mapping[str, int], *, stable: str) -> Serving:
    """Plans the serving objects of `hashes`; those of every other revision are deleted."""
    kept = sorted(hashes)
    revisions = {r.spec.hash: r for r in s.revisions}
    served = [(revisions[h], a) for h in kept if h in revisions and (a := revisions[h].status.artifact)]
    apply = [m for r, a in served for m in _objects(s, r, a, floors.get(r.spec.hash, 0), stable)]
    probes = [t for r, a in served if r.spec.hash != s.status.stable_revision for t in _targets(s, r, a)]
    return Serving(tuple(apply), _handover(s, kept), _surplus(s, set(kept)), tuple(probes))


def _objects(s: Snapshot, revision: Revision, artifact: Artifact, floor: int, stable: str) -> list[dict[str, Any]]:
    hash = revision.spec.hash
    owner = parts.owner(s.meta.name, s.meta.uid)
    scaled = s.spec.serving.autoscaling
    found = [
        deployment(_serve(s, revision, artifact, owner, _replicas(s, hash, floor, stable))),
        service(
            name=revision.name,
            namespace=s.meta.namespace,
            model=s.meta.name,
            revision=hash,
            component="serve",
            owner=owner,
        ),
    ]
    if scaled:
        found.append(
            autoscaler(
                namespace=s.meta.namespace, model=s.meta.name, revision=hash, spec=scaled, floor=floor, owner=owner
            )
        )
    return found


def replacing(s: Snapshot, serving: Serving, hash: str) -> str:
    """How far the pods of a revision are from the template that is wanted now; empty = all are of it."""
    live = next((d for d in s.deployments if _hash(d) == hash), None)
    wanted = next((m for m in serving.apply if m["kind"] == "Deployment" and _hash(m) == hash), None)
    if live is None or wanted is None:
        return ""
    mark = (live["metadata"].get("annotations") or {}).get(names.TEMPLATE)
    status, generation = live.get("status") or {}, live["metadata"].get("generation", 0)
    unseen = status.get("observedGeneration", generation) < generation and not _told_ready(s)
    old = status.get("replicas", 0) - status.get("updatedReplicas", 0)
    if mark not in (None, wanted["metadata"]["annotations"][names.TEMPLATE]) or unseen:
        return f"the pods of revision {hash} are about to be replaced"
    return f"{old} pod{'s' if old > 1 else ''} of revision {hash} still to be replaced" if old > 0 else ""


def _told_ready(s: Snapshot) -> bool:
    """Whether this generation was found Ready before: what its controller has not seen yet is then the work of an autoscaler."""
    known = c.find(s.status.conditions, c.READY)
    return known is not None and known.status == "True" and known.observed_generation == s.meta.generation


def _handover(s: Snapshot, kept: list[str]) -> tuple[dict[str, Any], ...]:
    """Deployments whose replicas we own and an autoscaler is to own: dropping the field would reset it to 1."""
    if s.spec.serving.autoscaling is None:
        return ()
    fixed = (d for d in s.deployments if _hash(d) in kept and not pods.is_deleting(d))
    return tuple(keep_replicas(d) for d in fixed if (d["metadata"].get("annotations") or {}).get(names.REPLICAS))


def _replicas(s: Snapshot, hash: str, floor: int, stable: str) -> int | None:
    if s.spec.serving.autoscaling:
        return None
    wanted = s.spec.serving.replicas if s.spec.serving.replicas is not None else 1
    return max(1, floor) if stable and hash != stable else max(wanted, floor)


def _serve(
    s: Snapshot, revision: Revision, artifact: Artifact, owner: list[dict[str, Any]], replicas: int | None
) -> Serve:
    batching = revision.spec.batching
    limit = artifact.max_batch_size
    if limit and limit < batching.max_batch_size:
        batching = Batching(limit, batching.length_buckets)
    live = next((d for d in s.deployments if d["metadata"]["name"] == revision.name), None)
    serving = s.spec.serving
    return Serve(
        namespace=s.meta.namespace,
        revision=revision.spec.hash,
        pull=PullInput(
            model=s.meta.name,
            namespace=s.meta.namespace,
            digest=artifact.digest,
            artifacts=msgspec.structs.replace(s.spec.artifacts, deletion_policy="Retain"),
            batching=batching,
            accelerator=revision.spec.accelerator,
            half=any(step.quantize is not None and step.quantize.method == "Float16" for step in revision.spec.steps),
        ),
        runtime=revision.spec.runtime,
        pull_image=_pull_image(live) or s.platform.operator_image,
        pull_policy=s.platform.image_pull_policy,
        replicas=replicas,
        resources=serving.resources,
        pod_template=serving.pod_template,
        owner=owner,
        patience=_patience(revision, artifact),
    )


def _patience(revision: Revision, artifact: Artifact) -> int:
    figures = revision.status.figures
    return patience(figures.p50_ms if figures else "", bool(artifact.golden and artifact.golden.max_tokens))


def _pull_image(live: Manifest | None) -> str:
    """The init image a living Deployment was made with: an upgrade of the operator must not roll anybody's pods."""
    found = live["spec"]["template"]["spec"].get("initContainers", []) if live else []
    return str(found[0]["image"]) if found else ""


def _targets(s: Snapshot, revision: Revision, artifact: Artifact) -> list[ProbeTarget]:
    golden = artifact.golden
    if golden is None:
        return []
    asked = artifact.inputs[0].name if artifact.inputs else "TEXT"
    return [
        ProbeTarget(
            pods.uid(p),
            url,
            s.meta.name,
            golden.text,
            golden.output,
            golden.head,
            golden.tolerance,
            golden.max_tokens,
            asked,
            golden.places,
            _patience(revision, artifact),
        )
        for p in serving_pods(s, revision.spec.hash)
        if pods.is_ready(p) and (url := pods.address(p, HTTP_PORT))
    ]


def _surplus(s: Snapshot, kept: set[str]) -> tuple[Ref, ...]:
    """Serving objects of revisions that are not served (any more), and autoscalers that nobody asks for."""
    owned = [*s.autoscalers, *s.deployments, *s.services]
    mine = [o for o in owned if o["metadata"]["labels"].get(names.COMPONENT) == "serve" and not pods.is_deleting(o)]
    unscaled = [] if s.spec.serving.autoscaling else [ref(a) for a in s.autoscalers if _hash(a) in kept]
    return (*(ref(o) for o in mine if _hash(o) not in kept), *unscaled)


def _hash(obj: Manifest) -> str:
    return str(obj["metadata"].get("labels", {}).get(names.REVISION, ""))


def failure(s: Snapshot, hash: str) -> Failure | None:
    """Why the pods of a revision do not come up, in terms of what to do."""
    found = pods.trouble(p for p in serving_pods(s, hash) if not pods.is_ready(p))
    if found is None:
        return _not_created(s, hash) or _refused_answer(s, hash)
    if found.container == "pull" and found.exit_code:
        reason, message = _pull_reason(found.text)
        return Failure("pull", reason, message, found.pod, found.exit_code, found.ended)
    if found.container == "triton" and found.reason == "ContainerFailed":
        text = f"Triton could not load the model: {_reason(found.text)}"
        return Failure("triton", "ModelLoadFailed", text, found.pod, found.exit_code)
    if found.reason == "OutOfMemory":
        text = "Triton ran out of memory. Raise spec.serving.resources.limits.memory."
        return Failure("triton", "OutOfMemory", text, found.pod, found.exit_code)
    message = found.message
    if (found.container, found.reason) == ("triton", "ImagePullFailed"):
        message += (
            " A revision keeps the runtime that it was made with: if that names a wrong image, correct it there and set "
            "spec.source.refresh."
        )
    return Failure("pod", found.reason, message, found.pod, found.exit_code)


def _reason(log: str) -> str:
    """The line of Triton's log that says why, else its end."""
    lines = [line for line in log.splitlines() if "failed to load" in line or "UNAVAILABLE" in line]
    return _STAMP.sub("", lines[0] if lines else log.strip()[-500:])[:500]


def _not_created(s: Snapshot, hash: str) -> Failure | None:
    """What the API server says to pods of a revision that it does not let in."""
    for d in s.deployments:
        told = (x for x in d.get("status", {}).get("conditions", []) if x["type"] == "ReplicaFailure")
        said = next((x.get("message", "") for x in told if x["status"] == "True"), "") if _hash(d) == hash else ""
        if said:
            text = f"revision {hash} lacks pods, the API server says: {pods.not_let_in(said)}. Mend that; they are then made."
            return Failure("pod", "PodNotCreated", text)
    return None


def _refused_answer(s: Snapshot, hash: str) -> Failure | None:
    for p in serving_pods(s, hash):
        result = s.probes.get(pods.uid(p))
        if result is not None and not result.ok and pods.is_ready(p):
            return Failure("inference", "WrongAnswer", result.message, str(p["metadata"]["name"]))
    return None


def _pull_reason(text: str) -> tuple[str, str]:
    """Reason and message of the init container's termination document, or of whatever it said last."""
    try:
        said = msgspec.json.decode(text)
        return str(said["reason"]), str(said["message"])
    except (msgspec.DecodeError, TypeError, KeyError):
        return "ArtifactPullFailed", text.strip()[-500:]
