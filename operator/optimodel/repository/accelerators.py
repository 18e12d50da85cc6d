"""Where Triton runs the graph: the part of its config that differs between a CPU, CUDA and TensorRT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..api.spec import Accelerator

CPU: list[dict[str, Any]] = [{"count": 1, "kind": "KIND_CPU"}]
GPU: list[dict[str, Any]] = [{"count": 1, "kind": "KIND_GPU"}]
CUDA: dict[str, Any] = {"name": "cuda", "parameters": {"use_tf32": "0"}}
"""Full fp32: the gates judged it, and TF32 keeps 10 of its 23 bits."""
ENGINES = "/tmp/tensorrt"
"""Engines that were built: a container that starts again in its pod finds them. They fit the GPU that built them alone."""


@dataclass(frozen=True)
class Placement:
    """Where the core runs. `threads` are those of one operator on the CPU; `half` = the graph is of half precision."""

    threads: int
    accelerator: Accelerator | None = None
    half: bool = False

    def config(self, inputs: Sequence[str], batch: int, shapes: Sequence[tuple[int, ...]]) -> dict[str, Any]:
        """The core's instances, execution accelerators and parameters. `shapes` of one row of its `inputs`
        ascend."""
        parameters = {"parameters": {"intra_op_thread_count": {"stringValue": str(self.threads)}}}
        if self.accelerator is None:
            return {"instanceGroup": CPU, **parameters}
        chosen = [self._tensorrt(inputs, batch, shapes), CUDA] if self.accelerator == "TensorRT" else [CUDA]
        accelerators = {"executionAccelerators": {"gpuExecutionAccelerator": chosen}}
        return {"instanceGroup": GPU, "optimization": accelerators, **parameters}

    def _tensorrt(self, inputs: Sequence[str], batch: int, shapes: Sequence[tuple[int, ...]]) -> dict[str, Any]:
        """One engine for every shape that is served: without these bounds each new one would build another."""
        bounds = {"min": (1, *shapes[0]), "opt": (batch, *shapes[len(shapes) // 2]), "max": (batch, *shapes[-1])}
        profile = {
            f"trt_profile_{bound}_shapes": ",".join(f"{name}:{'x'.join(map(str, dims))}" for name in inputs)
            for bound, dims in bounds.items()
        }
        parameters = {
            "precision_mode": "FP16" if self.half else "FP32",
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": ENGINES,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": ENGINES,
        }
        return {"name": "tensorrt", "parameters": parameters | profile}
