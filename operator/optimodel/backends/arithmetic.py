"""What surrounds the graph: text to padded token ids, and the graph's output to an answer.

Runs inside Triton's tokenizer and head, and in the worker's evaluation, so that what is measured is what is served.
Needs numpy and `tokenizers` only. No result depends on which other texts are in the same call, except through the
padded length: `encode` pads to the bucket of the longest text it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

MAX_TEXT_BYTES = 1 << 20


class BadText(ValueError):
    """A text that cannot be answered; the message says what to send instead."""


def decode(value: object) -> str:
    """A text from the bytes of a request. Raises `BadText` when it is not UTF-8 or is larger than 1 MiB."""
    data = value if isinstance(value, bytes) else str(value).encode()
    if len(data) > MAX_TEXT_BYTES:
        raise BadText(f"a text of {len(data)} bytes is larger than {MAX_TEXT_BYTES}: split it")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadText(f"a text is not UTF-8 (byte {error.start}): encode it as UTF-8") from None


def load_tokenizer(path: str, max_length: int) -> Any:
    """The tokenizer in the file, truncating at `max_length` tokens and not padding, whatever the file itself says."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer


def encode(
    tokenizer: Any, texts: Sequence[str], inputs: Sequence[str], lengths: Sequence[int], pad_id: int
) -> dict[str, Array]:
    """The graph's `inputs` (int64 [texts, length]), right-padded to the smallest of `lengths` that holds every text."""
    encodings = tokenizer.encode_batch(list(texts))
    longest = max((len(e.ids) for e in encodings), default=0)
    width = next((b for b in lengths if b >= longest), lengths[-1])
    found: dict[str, Array] = {
        "input_ids": np.full((len(encodings), width), pad_id, np.int64),
        "attention_mask": np.zeros((len(encodings), width), np.int64),
        "token_type_ids": np.zeros((len(encodings), width), np.int64),
    }
    for row, encoding in enumerate(encodings):
        size = len(encoding.ids)
        found["input_ids"][row, :size] = encoding.ids
        found["attention_mask"][row, :size] = encoding.attention_mask
        found["token_type_ids"][row, :size] = encoding.type_ids
    return {name: found[name] for name in inputs}


def embed(hidden: Array, mask: Array, pooling: str, normalize: bool) -> Array:
    """Sentence vectors (float32 [texts, hidden]): masked mean of token vectors or the first, at unit length if so."""
    if pooling == "cls":
        vectors = hidden[:, 0].astype(np.float32)
    else:
        weights = mask[..., None].astype(np.float32)
        vectors = (hidden * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
    if normalize:
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.ascontiguousarray(vectors, np.float32)


def softmax(logits: Array) -> Array:
    """Scores (float32 [texts, labels]) that sum to 1."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.ascontiguousarray(shifted / shifted.sum(axis=1, keepdims=True), np.float32)
