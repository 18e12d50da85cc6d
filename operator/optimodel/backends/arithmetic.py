"""What surrounds the graph: text to padded token ids, and the graph's output to an answer.

Runs inside Triton's tokenizer and head, and in the worker's evaluation, so that what is measured is what is served.
Needs numpy and `tokenizers` only. No result depends on which other texts are in the same call, except through the
padded length: `encode` pads to the bucket of the longest text it is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

MAX_TEXT_BYTES = 1 << 20
WORD = re.compile(r"\S+")
"""A word is what white space separates."""


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
    """The tensors `inputs`: of the graph (int64 [texts, length]), right-padded to the smallest of `lengths` that holds
    every text, and `word_tokens` (int64 [texts, words]): see `first_tokens`, with at least one column."""
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
    if "word_tokens" in inputs:
        places = [first_tokens(text, e.offsets) for text, e in zip(texts, encodings, strict=True)]
        found["word_tokens"] = np.full((len(places), max([1, *map(len, places)])), -1, np.int64)
        for row, of_text in enumerate(places):
            found["word_tokens"][row, : len(of_text)] = of_text
    return {name: found[name] for name in inputs}


def first_tokens(text: str, offsets: Sequence[tuple[int, int]]) -> list[int]:
    """For each word of the text the place of its first token, which answers for it; -1 where it has none, as a word
    that was cut off. `offsets` are the tokens' characters in the text; special tokens have none."""
    words = [match.span() for match in WORD.finditer(text)]
    found, word = [-1] * len(words), 0
    for place, (start, end) in enumerate(offsets):
        while word < len(words) and words[word][1] <= start:
            word += 1
        if start < end and word < len(words) and end > words[word][0] and found[word] < 0:
            found[word] = place
    return found


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
    """Scores (float32) that sum to 1 over the labels, the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.ascontiguousarray(shifted / shifted.sum(axis=-1, keepdims=True), np.float32)


def word_scores(logits: Array, word_tokens: Array) -> Array:
    """Scores of each word's first token (float32 [texts, words, labels]); zeros where there is none."""
    there = word_tokens >= 0
    chosen = np.take_along_axis(logits, np.where(there, word_tokens, 0)[..., None], axis=1)
    return softmax(chosen) * there[..., None].astype(np.float32)


Settings: TypeAlias = Mapping[str, Any]
"""`model.json` of the artifact."""


def answer(settings: Settings, tensors: Mapping[str, Array]) -> Array:
    """What the model says: vectors [texts, size], scores [texts or images, labels] or of words [texts, words, labels].
    `tensors` are the graph's output and the front's tensors by name."""
    return _TASKS[settings["task"]][0](settings, tensors)


def outputs(settings: Settings, found: Array) -> dict[str, Array]:
    """An answer as the public tensors. A word without a token has an empty label and score 0."""
    return _TASKS[settings["task"]][1](settings, found)


def _vectors(settings: Settings, tensors: Mapping[str, Array]) -> Array:
    hidden, mask = tensors["last_hidden_state"], tensors["attention_mask"]
    return embed(hidden, mask, settings["pooling"], settings["normalize"])


def _best(settings: Settings, scores: Array) -> Array:
    """The best label's bytes along the last axis."""
    labels = np.array([label.encode() for label in settings["labels"]], dtype=object)
    best: Array = labels[scores.argmax(axis=-1)]
    return best


def _labelled_words(settings: Settings, scores: Array) -> dict[str, Array]:
    highest = scores.max(axis=-1)
    return {"SCORE": highest, "LABEL": np.where(highest > 0, _best(settings, scores), b"")}


_Answer: TypeAlias = Callable[[Settings, Mapping[str, Array]], Array]
_Outputs: TypeAlias = Callable[[Settings, Array], dict[str, Array]]
_CLASSIFIED: tuple[_Answer, _Outputs] = (
    lambda settings, tensors: softmax(tensors["logits"]),
    lambda settings, found: {"SCORES": found, "LABEL": _best(settings, found)[:, None]},
)
_TASKS: dict[str, tuple[_Answer, _Outputs]] = {
    "TextEmbedding": (_vectors, lambda settings, found: {"EMBEDDING": found}),
    "TextClassification": _CLASSIFIED,
    "ImageClassification": _CLASSIFIED,
    "TokenClassification": (
        lambda settings, tensors: word_scores(tensors["logits"], tensors["word_tokens"]),
        _labelled_words,
    ),
}
