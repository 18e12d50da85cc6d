"""How each task is served around its graph: what stands before it, what the graph gives, what else the head reads, and what it
answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..api.contract import Tensor
from ..api.spec import Task

if TYPE_CHECKING:
    from .models import Description


class Front(NamedTuple):
    """The model before the graph: `backend` is the folder of its code, which imports `module`, and ends its name; it reads
    `files` of the artifact. It takes the public `input`, such as `question`, which asks whether anybody is there."""

    backend: str
    module: str
    files: tuple[str, ...]
    input: Tensor
    question: str


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNoAAAAggCB2kUIOwAAAABJRU5ErkJggg=="
"""A grey one, as PNG in base64."""
TEXT = Front("tokenizer", "arithmetic.py", ("tokenizer.json",), Tensor("TEXT", "BYTES", (1,)), "ready?")
IMAGE = Front("processor", "pixels.py", (), Tensor("IMAGE", "BYTES", (1,)), PIXEL)


class Served(NamedTuple):
    """`output` of the graph with its `dims` without the batch, the front's tensors that the head reads `beside` it,
    and the public `answers`, the one that is remembered as golden first. -1 = one for each token or word."""

    output: Literal["last_hidden_state", "logits"]
    dims: Callable[[Description], tuple[int, ...]]
    beside: tuple[str, ...]
    answers: Callable[[Description], tuple[Tensor, ...]]
    front: Front = TEXT


def _embedding(description: Description) -> tuple[Tensor, ...]:
    return (Tensor("EMBEDDING", "FP32", (description.hidden_size,)),)


def _scores(description: Description) -> tuple[Tensor, ...]:
    return Tensor("SCORES", "FP32", (len(description.labels),)), Tensor("LABEL", "BYTES", (1,))


def _words(description: Description) -> tuple[Tensor, ...]:
    return Tensor("SCORE", "FP32", (-1,)), Tensor("LABEL", "BYTES", (-1,))


def _written(description: Description) -> tuple[Tensor, ...]:
    return Tensor("TOKENS", "INT64", (-1,)), Tensor("GENERATED", "BYTES", (1,)), Tensor("FINISH_REASON", "BYTES", (1,))


SERVED: Mapping[Task, Served] = {
    "TextEmbedding": Served("last_hidden_state", lambda d: (-1, d.hidden_size), ("attention_mask",), _embedding),
    "TextClassification": Served("logits", lambda d: (len(d.labels),), (), _scores),
    "TokenClassification": Served("logits", lambda d: (-1, len(d.labels)), ("word_tokens",), _words),
    "TextGeneration": Served("logits", lambda d: (-1, -1), (), _written),
    "ImageClassification": Served("logits", lambda d: (len(d.labels),), (), _scores, IMAGE),
}
