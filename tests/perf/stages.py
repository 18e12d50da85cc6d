"""What kwok plays: Jobs that end after a second and leave a result, pods of Deployments that are Ready at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from optimodel.api.contract import Artifact, Figures, Golden, Result, StepProgress, encode

GOLDEN = Golden("hello", "EMBEDDING", ("0.1", "0.2", "0.3", "0.4"))
JOB_MS = 1000

_CONDITIONS = "".join(
    f'- {{type: {name}, status: "True", lastTransitionTime: {{{{ Now | Quote }}}}}}\n'
    for name in ("Initialized", "ContainersReady", "Ready")
)
_STARTED = f"""
phase: Running
startTime: {{{{ Now | Quote }}}}
podIP: ADDRESS
podIPs: [{{ip: ADDRESS}}]
conditions:
{_CONDITIONS}
containerStatuses:
{{{{ range .spec.containers }}}}
- name: {{{{ .name | Quote }}}}
  image: {{{{ .image | Quote }}}}
  ready: true
  restartCount: 0
  state: {{running: {{startedAt: {{{{ Now | Quote }}}}}}}}
{{{{ end }}}}
"""
_ENDED = """
phase: Succeeded
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  ready: false
  restartCount: 0
  state:
    terminated:
      exitCode: 0
      reason: Completed
      startedAt: {{ Now | Quote }}
      finishedAt: {{ Now | Quote }}
      message: 'MESSAGE'
{{ end }}
"""


def result() -> Result:
    """What every Job leaves: one artifact, all steps done, no gates."""
    artifact = Artifact(
        digest="sha256:" + "ab" * 32,
        bytes=24_000_000,
        weights_bytes=23_000_000,
        source_digest="sha256:" + "cd" * 32,
        source_weights_bytes=90_000_000,
        golden=GOLDEN,
    )
    steps = tuple(StepProgress(name, "Done", 100, "1.0") for name in ("Fetch", "graph", "int8", "Evaluate", "Publish"))
    return Result("Succeeded", "Optimized", artifact=artifact, steps=steps, figures=Figures(cosine_mean="0.992"))


def _stage(name: str, phase: str, next: dict[str, Any], owner: str = "", delay: int = 0) -> dict[str, Any]:
    alive = {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}
    where = [alive, {"key": ".status.phase", "operator": "In", "values": [phase]}]
    if owner:
        where.append({"key": ".metadata.ownerReferences.[].kind", "operator": "In", "values": [owner]})
    spec: dict[str, Any] = {"resourceRef": {"apiGroup": "v1", "kind": "Pod"}, "selector": {"matchExpressions": where}}
    spec |= {"next": next} | ({"delay": {"durationMilliseconds": delay}} if delay else {})
    return {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": {"name": name}, "spec": spec}


def write(target: Path, address: str) -> Path:
    """Write kwok's configuration; `address` is that of every pod: the stand-in inference server listens there."""
    options = {"podPlayStageParallelism": 16, "nodePlayStageParallelism": 4, "nodeLeaseParallelism": 4}
    documents = [
        {"apiVersion": "config.kwok.x-k8s.io/v1alpha1", "kind": "KwokConfiguration", "options": options},
        _stage("pod-started", "Pending", {"statusTemplate": _STARTED.replace("ADDRESS", address)}),
        _stage("job-ended", "Running", {"statusTemplate": _ENDED.replace("MESSAGE", encode(result()))}, "Job", JOB_MS),
    ]
    target.write_text("\n---\n".join(json.dumps(each) for each in documents))
    return target
