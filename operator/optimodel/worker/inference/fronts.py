"""What stands before the graph of an artifact, as it is served: texts become token ids, images pixel values. And what a model is
asked, data or not, to measure it: real questions for what its answers are like, made-up tensors for what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import msgspec
import numpy as np

from optimodel import repository
from optimodel.api.spec import Shape
from optimodel.backends import arithmetic
from optimodel.repository import Description

from ..errors import Failure

Array: TypeAlias = Any
"""A numpy array; its shape is in the docstrings."""
TEXTS = (
    "What is the capital of Peru?",
    "yes",
    "Who wrote the first modern novel, and in which language was it written before it was translated into English?",
    "How far is it from Denver to Aspen?",
    "The quick brown fox jumps over the lazy dog near the river bank on a quiet Sunday morning.",
    "12345 67890",
    "Name a fish.",
    "Das Wetter ist heute schön, aber morgen soll es regnen.",
)
"""Probes of mixed lengths."""


def fitting(wanted: Sequence[Shape], longest: int) -> list[Shape]:
    """Those of the workloads that a model which reads so many tokens can be given. Raises `Failure` if the first is none of them: gates,
    figures and the search are about that one, and another in its place would be judged in silence."""
    if wanted and wanted[0].sequence_length > longest:
        raise Failure(
            "ShapesTooLong",
            f"The first of optimization.target.shapes has {wanted[0].sequence_length} tokens, and the model reads {longest}. "
            "Latency is judged at the first: put a shorter one there.",
        )
    return [shape for shape in wanted if shape.sequence_length <= longest]


class Front(Protocol):
    """`probes` are questions for batch invariance and golden answers."""

    probes: Sequence[str]

    def encode(self, questions: Sequence[str]) -> dict[str, Array]:
        """What the graph and the head read, for one batch."""

    def sample(self, batch: int, length: int) -> dict[str, Array]:
        """Made-up inputs of the graph; an image has no length."""

    def shapes(self, wanted: Sequence[Shape]) -> list[Shape]:
        """Those of the wanted workloads that the model can be given, each once. Raises `Failure` as `fitting` does."""


class Texts:
    """Token ids, padded to the smallest of the `buckets` that holds all texts."""

    probes: Sequence[str] = TEXTS

    def __init__(self, folder: Path, description: Description, buckets: tuple[int, ...]) -> None:
        self.description = description
        self._lengths = repository.lengths(buckets, description.max_length)
        self._tokenizer = arithmetic.load_tokenizer(str(folder / "tokenizer.json"), description.max_length)

    def encode(self, questions: Sequence[str]) -> dict[str, Array]:
        """As `Front.encode`."""
        names, pad = repository.encoded(self.description), self.description.pad_token_id
        return arithmetic.encode(self._tokenizer, questions, names, self._lengths, pad)

    def sample(self, batch: int, length: int) -> dict[str, Array]:
        """As `Front.sample`."""
        return sample(msgspec.to_builtins(self.description), batch, length, self._tokenizer.get_vocab_size())

    def shapes(self, wanted: Sequence[Shape]) -> list[Shape]:
        """As `Front.shapes`."""
        return fitting(wanted, self.description.max_length)


class Images:
    """Pixel values of files in base64."""

    def __init__(self, description: Description) -> None:
        from ..source.images import probes

        self.probes: Sequence[str] = probes()
        self._settings: dict[str, Any] = msgspec.to_builtins(description)

    def encode(self, questions: Sequence[str]) -> dict[str, Array]:
        """As `Front.encode`."""
        from optimodel.backends import pixels

        (name,) = self._settings["inputs"]
        return {name: pixels.encode(questions, self._settings["image"])}

    def sample(self, batch: int, length: int) -> dict[str, Array]:
        """As `Front.sample`."""
        return sample(self._settings, batch, length, 0)

    def shapes(self, wanted: Sequence[Shape]) -> list[Shape]:
        """As `Front.shapes`: their batch sizes alone."""
        return [Shape(batch, 0) for batch in dict.fromkeys(shape.batch_size for shape in wanted)]


def of(folder: Path, description: Description, buckets: tuple[int, ...]) -> Front:
    """The front of an exported folder. Raises `ValueError` for one that cannot be served."""
    return Texts(folder, description, buckets) if description.image is None else Images(description)


def sample(
    settings: Mapping[str, Any], batch: int, length: int, vocabulary: int, *, ragged: bool = False
) -> dict[str, Array]:
    """Seeded inputs of the graph that `settings`, the content of `model.json`, describe: token ids away from padding and
    below `vocabulary`, a half of the last text masked if `ragged`; or pixel values about 0."""
    chance = np.random.default_rng(7)
    if image := settings.get("image"):
        size = (batch, 3, image["height"], image["width"])
        return {name: chance.standard_normal(size, np.float32) for name in settings["inputs"]}
    ids = chance.integers(min(10, vocabulary - 1), vocabulary, (batch, length))
    mask = np.ones_like(ids)
    if ragged:
        mask[-1, length // 2 :] = 0
    values = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {name: values[name] for name in settings["inputs"]}
