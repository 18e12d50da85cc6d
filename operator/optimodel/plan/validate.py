"""What only the operator can know is wrong with a spec, said before a pod exists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from ..api.durations import seconds
from ..api.spec import EVALUATE, IMAGES, Batching
from ..recipes import models, rules, search, shards, trains
from ..resources.routes import kinds
from .revise import Target, problems
from .types import Snapshot


@dataclass(frozen=True)
class Refusal:
    """Why the spec cannot be acted on. `terminal` = only a new spec helps; otherwise the world may mend it."""

    reason: str
    message: str
    terminal: bool = True


_MENDED_BY_THE_WORLD = ("RecipeNotFound", "ParameterUndeclared")


def refuse(s: Snapshot, wanted: Target | None) -> Refusal | None:
    """The first reason not to act on this spec; None = go on. A `wanted` revision does without the recipe's present form."""
    for problem in problems(s) if wanted is None else ():
        return Refusal(problem.reason, problem.message, terminal=problem.reason not in _MENDED_BY_THE_WORLD)
    return next(chain(_refusals(s), _placement(s, wanted)), None)


def _refusals(s: Snapshot) -> Iterator[Refusal]:
    o = s.spec.optimization
    for problem in (
        *search.check(o.auto, s.spec.task, o.steps, o.gates, s.spec.data),
        *rules.check(s.spec.task, o.steps, o.gates, s.spec.data, o.target),
        *models.check(o.steps, s.spec.models),
    ):
        yield Refusal(problem.reason, problem.message + _origin(s))
    yield from _processes(s)
    yield from _pod_templates(s)
    if o.auto is not None and o.target.device != "CPU":
        text = (
            f"spec.optimization.auto measures on the CPU of its Job, and target.device is {o.target.device}. Set it to CPU, or "
            "write the steps, or name a recipe such as gpu-fp8."
        )
        yield Refusal("AutoNotForDevice", text)
    if s.spec.task in IMAGES and s.spec.serving.batching.length_buckets != Batching().length_buckets:
        text = "spec.serving.batching.lengthBuckets are lengths of texts, and images are all of one size. Remove them."
        yield Refusal("SettingUnused", text)
    yield from _durations(s)
    yield from _router(s)
    yield from _runtime(s)


def _origin(s: Snapshot) -> str:
    ref = s.spec.optimization.recipe_ref
    return f" (Steps and gates are those of {ref.kind} {ref.name} and of spec.optimization.)" if ref else ""


def _processes(s: Snapshot) -> Iterator[Refusal]:
    o = s.spec.optimization
    steps = (*o.steps, *search.prunings(o.auto))
    if o.processes > 1 and not any(map(trains, steps)):
        text = f"spec.optimization.processes is {o.processes}, but no step trains. Set it to 1, or add one that does."
        yield Refusal("SettingUnused", text)
    for step in steps if o.parallelism == "FSDP" else ():
        if not shards(step):
            which = f"Step {step.name!r}" if step in o.steps else "Pruning by spec.optimization.auto.prune: FFN"
            text = (
                f"{which} cannot train a model that lies in parts (spec.optimization.parallelism: FSDP); FineTune without "
                "adversarial and Distill can. Set parallelism to DDP, or leave it out."
            )
            yield Refusal("StepNotSharded", text)


def _pod_templates(s: Snapshot) -> Iterator[Refusal]:
    o = s.spec.optimization
    known = (*(step.name for step in o.steps), EVALUATE)
    for name in (name for template in o.pod_templates for name in template.steps if name not in known):
        text = f"spec.optimization.podTemplates names step {name!r}; there are: {', '.join(known)}. Correct the name, or remove it."
        yield Refusal("StepUnknown", text)


def _durations(s: Snapshot) -> Iterator[Refusal]:
    r = s.spec.rollout
    texts = {
        "spec.optimization.timeout": s.spec.optimization.timeout,
        **({"spec.optimization.auto.timeout": s.spec.optimization.auto.timeout} if s.spec.optimization.auto else {}),
        "spec.rollout.progressDeadline": r.progress_deadline,
        "spec.rollout.drain": r.drain,
        **{f"spec.rollout.steps[{x.name}].minDuration": x.min_duration for x in r.steps},
    }
    for field, text in texts.items():
        try:
            seconds(text)
        except ValueError as e:
            yield Refusal("InvalidDuration", f"{field}: {e}")
            return
    auto, whole = s.spec.optimization.auto, s.spec.optimization.timeout
    if auto and seconds(auto.timeout) >= seconds(whole):
        message = f"spec.optimization.auto.timeout: {auto.timeout} does not fit into optimization.timeout, {whole}. Shorten it."
        yield Refusal("InvalidDuration", message)


def _router(s: Snapshot) -> Iterator[Refusal]:
    router = s.spec.rollout.router
    missing = [kind for kind in kinds(router) if kind in s.missing_kinds]
    if missing:
        text = f"this cluster has no {' and no '.join(missing)}. Install the Gateway API CRDs, or remove spec.rollout.router."
        yield Refusal("RouterUnavailable", text, terminal=False)
    if s.route_conflict:
        text = f"{s.route_conflict} already answers for a hostname of spec.rollout.router on the same Gateway. Choose another hostname."
        if router and not (router.hostnames.http or router.hostnames.grpc):
            text = (
                f"spec.rollout.router names no hostname, nor does {s.route_conflict} on the same Gateway, which answers there already. "
                "Name one in spec.rollout.router.hostnames."
            )
        yield Refusal("HostnameConflict", text, terminal=False)


def _runtime(s: Snapshot) -> Iterator[Refusal]:
    ref = s.spec.serving.runtime_ref
    if s.runtime is None:
        yield Refusal(
            "RuntimeNotFound", f"{ref.kind} {ref.name} does not exist. Create it, or name another.", terminal=False
        )
    elif "ONNX" not in s.runtime.formats:
        yield Refusal("FormatNotSupported", f"{ref.kind} {ref.name} does not serve ONNX. Name a runtime that does.")
    elif (wanted := s.spec.optimization.target.execution) and wanted not in s.runtime.accelerators:
        serves = ", ".join(("CPU", *s.runtime.accelerators))
        text = (
            f"spec.optimization.target asks for {wanted}, and {ref.kind} {ref.name} serves on {serves}. Name a runtime whose "
            f"accelerators hold {wanted} in spec.serving.runtimeRef, or set target.device to CPU."
        )
        yield Refusal("AcceleratorNotSupported", text, terminal=False)


def _placement(s: Snapshot, wanted: Target | None) -> Iterator[Refusal]:
    """A pod has one node selector. The runtime's holds, so a spec that says otherwise of the same key would be ignored."""
    theirs = (wanted.spec.runtime.node_selector if wanted else None) or {}
    ours = ((s.spec.serving.pod_template or {}).get("spec") or {}).get("nodeSelector") or {}
    for key in sorted(k for k in ours.keys() & theirs.keys() if ours[k] != theirs[k]):
        ref = s.spec.serving.runtime_ref
        text = (
            f"spec.serving.podTemplate.spec.nodeSelector asks for {key}={ours[key]}, and {ref.kind} {ref.name} for "
            f"{key}={theirs[key]}. Remove the key, or name another runtime in spec.serving.runtimeRef."
        )
        yield Refusal("NodeSelectorConflict", text, terminal=False)
