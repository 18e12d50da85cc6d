"""An artifact's own answers, computed as they are served: the same front and head around the same graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime as ort

from optimodel import repository
from optimodel.api.spec import GENERATING, Accelerator, Batching
from optimodel.backends import arithmetic

from . import fronts
from .fronts import Array

PROVIDERS: Mapping[Accelerator, tuple[str, ...]] = {
    "CUDA": ("CUDAExecutionProvider",),
    "TensorRT": ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
}
"""Of ONNX Runtime, in the order of its choice; the CPU's comes last."""


def session(graph: Path, threads: int, accelerator: Accelerator | None = None) -> Any:
    """An ONNX Runtime session; the same options for every graph, so that figures compare. Where this machine or this build has
    no such accelerator, it runs on the CPU (see `runs_on`)."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if accelerator:  # on a CPU the runtime would join pairs of FP8 to products that know integers alone
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    built = set(ort.get_available_providers())
    wanted = [name for name in PROVIDERS[accelerator] if name in built] if accelerator else []
    return ort.InferenceSession(str(graph), options, providers=[*wanted, "CPUExecutionProvider"])


def runs_on(session: Any, accelerator: Accelerator | None) -> bool:
    """Whether the session came up on the accelerator (None = the CPU) rather than on what was left."""
    return bool(session.get_providers()[0] == (PROVIDERS[accelerator][0] if accelerator else "CPUExecutionProvider"))


def opened(folder: Path, threads: int, batching: Batching, accelerator: Accelerator | None = None) -> Answerer:
    """The answers of an artifact by its task. Raises `ValueError` for one that cannot be served."""
    from .generation import Writer

    kind = Writer if repository.describe(folder).task in GENERATING else Answerer
    return kind(folder, threads, batching, accelerator)


class Answerer:
    """Answers of one artifact folder, padded as `batching` asks, on the `accelerator` if there is one. Raises `ValueError` for an
    artifact that cannot be served."""

    def __init__(self, folder: Path, threads: int, batching: Batching, accelerator: Accelerator | None = None) -> None:
        self.description = repository.describe(folder)
        self.session = session(folder / "model.onnx", threads, accelerator)
        self.threads, self.accelerator = threads, accelerator
        self._settings = msgspec.to_builtins(self.description)
        self.front = fronts.of(folder, self.description, batching.length_buckets)

    @property
    def at_home(self) -> bool:
        """Whether it runs where it will be served, so that its speed tells something."""
        return runs_on(self.session, self.accelerator)

    def run(self, inputs: dict[str, Array]) -> Array:
        """Answers (vectors, or scores of texts, of their words or of images) to what the front encoded."""
        (raw,) = self.session.run(None, {name: inputs[name] for name in self.description.inputs})
        return arithmetic.answer(self._settings, inputs | {self.description.output: raw})

    def public(self, answers: Array) -> dict[str, Array]:
        """Answers as the tensors that are served, by name."""
        return arithmetic.outputs(self._settings, answers)

    def alone(self, question: str) -> Array:
        """The answer to one question in a batch of its own."""
        answer: Array = self.run(self.front.encode([question]))[0]
        return answer


def cosines(before: Sequence[Array], after: Sequence[Array]) -> Array:
    """Cosine of each answer to its counterpart, both taken as one vector: answers to words differ in size from text to text."""
    pairs = zip(before, after, strict=True)
    return np.array([_cosine(a.ravel().astype(np.float64), b.ravel().astype(np.float64)) for a, b in pairs])


def _cosine(a: Array, b: Array) -> float:
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))
