"""An artifact's own answers, computed as they are served: the same tokenizer, padding and head around the same graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import onnxruntime as ort

from optimodel import repository
from optimodel.api.spec import GENERATING, Batching
from optimodel.backends import arithmetic

Array: TypeAlias = Any
"""A numpy array; its shape is in the docstrings."""


def session(graph: Path, threads: int) -> Any:
    """An ONNX Runtime session on the CPU; the same options for every graph, so that figures compare."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def opened(folder: Path, threads: int, batching: Batching) -> Answerer:
    """The answers of an artifact by its task. Raises `ValueError` for one that cannot be served."""
    from .writer import Writer

    kind = Writer if repository.describe(folder).task in GENERATING else Answerer
    return kind(folder, threads, batching)


class Answerer:
    """Answers of one artifact folder, padded as `batching` asks. Raises `ValueError` for an artifact that cannot be served."""

    def __init__(self, folder: Path, threads: int, batching: Batching) -> None:
        self.description = repository.describe(folder)
        self.session = session(folder / "model.onnx", threads)
        self.threads = threads
        self._settings = msgspec.to_builtins(self.description)
        self._lengths = repository.lengths(batching.length_buckets, self.description.max_length)
        self._tokenizer = arithmetic.load_tokenizer(str(folder / "tokenizer.json"), self.description.max_length)

    @property
    def vocabulary(self) -> int:
        """Token ids are below this."""
        return int(self._tokenizer.get_vocab_size())

    def encode(self, texts: Sequence[str]) -> dict[str, Array]:
        """What the tokenizer gives for one batch, padded to one bucket."""
        d = self.description
        return arithmetic.encode(self._tokenizer, texts, repository.tokenized(d), self._lengths, d.pad_token_id)

    def run(self, inputs: dict[str, Array]) -> Array:
        """Answers (vectors, or scores of texts or of their words) for encoded texts."""
        (raw,) = self.session.run(None, {name: inputs[name] for name in self.description.inputs})
        return arithmetic.answer(self._settings, inputs | {self.description.output: raw})

    def public(self, answers: Array) -> dict[str, Array]:
        """Answers as the tensors that are served, by name."""
        return arithmetic.outputs(self._settings, answers)

    def alone(self, text: str) -> Array:
        """The answer to one text in a batch of its own."""
        answer: Array = self.run(self.encode([text]))[0]
        return answer


def cosines(before: Sequence[Array], after: Sequence[Array]) -> Array:
    """Cosine of each answer to its counterpart, both taken as one vector: answers to words differ in size from text to text."""
    pairs = zip(before, after, strict=True)
    return np.array([_cosine(a.ravel().astype(np.float64), b.ravel().astype(np.float64)) for a, b in pairs])


def _cosine(a: Array, b: Array) -> float:
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))
