"""What the worker has to know of each task: how its model is loaded, how its rows are read, and what hubs call it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from optimodel.api.spec import Task

from .data.rows import IMAGES, TEXT, WORDS, Reader

ENCODERS = ("bert", "distilbert", "roberta")
DECODERS = ("llama",)
VISION = ("vit", "deit")


@dataclass(frozen=True)
class Kind:
    """`loader` is the class of transformers that loads the model, `pipeline` the hub's name of the task, `models` the values of
    `model_type` whose export is tested; `tools` are packages that questions are read with."""

    loader: str
    pipeline: str
    reader: Reader = TEXT
    models: tuple[str, ...] = ENCODERS
    tools: tuple[str, ...] = ()

    @property
    def architecture(self) -> str:
        """How the names of classes with a fitting head end; empty = any."""
        return self.loader.removeprefix("AutoModel")

    @property
    def words(self) -> bool:
        """Whether each word gets an answer, from its first token."""
        return self.reader is WORDS

    @property
    def images(self) -> bool:
        """Whether the model is asked about images."""
        return self.reader is IMAGES


KINDS: Mapping[Task, Kind] = {
    "TextEmbedding": Kind("AutoModel", "feature-extraction"),
    "TextClassification": Kind("AutoModelForSequenceClassification", "text-classification"),
    "TokenClassification": Kind("AutoModelForTokenClassification", "token-classification", WORDS),
    "TextGeneration": Kind("AutoModelForCausalLM", "text-generation", models=DECODERS),
    "ImageClassification": Kind("AutoModelForImageClassification", "image-classification", IMAGES, VISION, ("pillow",)),
}


def made_for(architecture: str) -> Task:
    """The task of a class's name; a body without a head of ours gives vectors."""
    fitting = (task for task, kind in KINDS.items() if kind.architecture and architecture.endswith(kind.architecture))
    return next(fitting, "TextEmbedding")
