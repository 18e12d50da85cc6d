"""What each step makes for which device. A pair that cannot be is refused before a pod exists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from optimodel.api.spec import GENERATING, Target, Task
from optimodel.api.steps import Quantize, Step

from .problem import Problem

METHODS: Mapping[str, tuple[frozenset[str], str]] = {
    "Dynamic": (frozenset({"CPU"}), "a GPU has no kernel for its products, which would go back to the CPU"),
    "Static": (frozenset({"CPU"}), "CUDA has no kernel for its products, and TensorRT takes no zero points"),
    "WeightOnly": (frozenset({"CPU", "CUDA"}), "TensorRT has no product with packed weights"),
    "GPTQ": (frozenset({"CPU", "CUDA"}), "TensorRT has no product with packed weights"),
    "AWQ": (frozenset({"CPU", "CUDA"}), "TensorRT has no product with packed weights"),
    "Float16": (frozenset({"CPU", "CUDA", "TensorRT"}), ""),
    "BFloat16": (frozenset({"CPU", "CUDA", "TensorRT"}), ""),
    "FP8": (frozenset({"CUDA", "TensorRT"}), "a CPU has no arithmetic in FP8"),
}
"""Method of Quantize → what may run its graphs (`place`), and why nothing else may. Every other step makes the same for all."""


def place(target: Target) -> str:
    """What runs the graph: `CPU`, or the accelerator."""
    return target.execution or "CPU"


def check_target(task: Task, target: Target) -> Iterator[Problem]:
    """Whether the target says one thing, and the task can be served there."""
    if target.device != "CPU" and task in GENERATING:
        message = f"A {task} model is served on a CPU alone, and target.device is {target.device}. Set it to CPU."
        yield Problem("DeviceNotSupported", message)
    if target.device == "CPU" and target.accelerator is not None:
        message = (
            f"target.accelerator is {target.accelerator}, which runs on a GPU, and target.device is CPU. "
            "Set target.device to GPU, or remove the accelerator."
        )
        yield Problem("AcceleratorNotForDevice", message)


def check(step: Step, target: Target) -> Iterator[Problem]:
    """Whether the step makes something for the target."""
    if step.type != "Quantize":
        return
    method = (step.quantize or Quantize()).method
    places, reason = METHODS[method]
    if place(target) not in places:
        others = ", ".join(name for name, (fit, _) in METHODS.items() if place(target) in fit)
        yield Problem(
            "DeviceNotSupported",
            f"Step {step.name!r}: Quantize.{method} makes nothing for {place(target)}: {reason}. "
            f"Use {others}, or a target of {' or '.join(sorted(places))}.",
        )
