"""What surrounds a decoder's graph: a text to token ids, one more token at a time, and back to text.

Runs inside Triton's generator and in the worker's evaluation, so that what is measured is what is served. Needs numpy,
`tokenizers` and ONNX Runtime only. Each text is written by itself: no result depends on another text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Settings: TypeAlias = Mapping[str, Any]
"""`model.json` of the artifact."""
Cache: TypeAlias = list[Any]
"""Keys and values of all tokens so far, layer by layer: `OrtValue`s of shape [texts, heads, tokens, size]."""

MAX_TOKENS = 16
"""How many tokens are written where a request does not say."""
MAX_STOPS = 16
PIECE = 256
"""Tokens of a prompt that are read at once."""
PAST, PRESENT = "past_key_values.", "present."
"""What the names of the cache's tensors begin with, on the way in and out."""


class BadRequest(ValueError):
    """A wish that cannot be granted; the message says what to send instead."""


@dataclass(frozen=True)
class Sampling:
    """How a text is continued. `temperature` 0 = always the likeliest token, else tokens are drawn from the likeliest that
    together have a probability of `top_p` (Holtzman et al. 2020), the same ones again for the same `seed`. The text ends
    before the first of the texts `stop`. `chat` = the text is what a person says, and the model answers."""

    max_tokens: int = MAX_TOKENS
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    chat: bool = False

    def check(self) -> None:
        """Raises `BadRequest` for a value out of bounds."""
        if self.max_tokens < 1:
            raise BadRequest(f"MAX_TOKENS is {self.max_tokens}: ask for 1 or more")
        if not 0 <= self.temperature <= 100:
            raise BadRequest(f"TEMPERATURE is {self.temperature:g}: give one from 0 to 100")
        if not 0 < self.top_p <= 1:
            raise BadRequest(f"TOP_P is {self.top_p:g}: give a probability above 0 and at most 1")
        if self.seed is not None and self.seed < 0:
            raise BadRequest(f"SEED is {self.seed}: give 0 or more")
        if len(self.stop) > MAX_STOPS:
            raise BadRequest(f"STOP has {len(self.stop)} texts: give at most {MAX_STOPS}")


@dataclass(frozen=True)
class Written:
    """What was written: token ids, the one that ended the text among them; the text without that; and why it ended:
    `stop` (by the model or a stop text) or `length`."""

    ids: tuple[int, ...]
    text: str
    reason: str


class Codec:
    """Text to token ids and back, by the tokenizer in a file. Safe for threads."""

    def __init__(self, path: str, settings: Settings) -> None:
        self._tokenizer, self._plain = _tokenizer(path), _tokenizer(path)
        self._plain.encode_special_tokens = True
        self._chat = settings.get("chat")

    def encode(self, text: str) -> list[int]:
        """Token ids of a text as it is."""
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def prompt(self, text: str, *, chat: bool = False) -> list[int]:
        """Token ids of a text, or of the model's chat template around it, where marks of the template in the text itself are
        plain characters. Raises `BadRequest`."""
        if not chat:
            if ids := self.encode(text):
                return ids
            raise BadRequest("TEXT has no token: send some text to go on from")
        if not self._chat:
            raise BadRequest("CHAT: the model has no chat template. Write the whole prompt as TEXT")
        before, after = (self._tokenizer.encode(part, add_special_tokens=False).ids for part in self._chat)
        return [*before, *self._plain.encode(text, add_special_tokens=False).ids, *after]

    def said(self, asked: Sequence[int], ids: Sequence[int]) -> str:
        """What tokens say behind those asked: some tokenizers leave out the space of the token that a text begins with."""
        before: str = self._tokenizer.decode(list(asked))
        whole: str = self._tokenizer.decode([*asked, *ids])
        return whole[len(before) :]


def _tokenizer(path: str) -> Any:
    """Neither padding nor truncating, whatever the file itself says."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


class Decoder:
    """A decoder's graph: `input_ids`, `attention_mask` and the cache in, logits and the longer cache out. Safe for threads."""

    def __init__(self, session: Any) -> None:
        self._session = session
        past = [tensor for tensor in session.get_inputs() if tensor.name.startswith(PAST)]
        self._past = [tensor.name for tensor in past]
        self._outputs = ["logits", *(name.replace(PAST, PRESENT) for name in self._past)]
        _, self._heads, _, self._size = past[0].shape

    def empty(self, texts: int) -> Cache:
        """The cache of texts without a token."""
        from onnxruntime import OrtValue

        nothing = np.zeros((texts, self._heads, 0, self._size), np.float32)
        return [OrtValue.ortvalue_from_numpy(nothing) for _ in self._past]

    def run(self, ids: Array, mask: Array, cache: Cache) -> tuple[Array, Cache]:
        """Logits (float32 [texts, tokens, vocabulary]) of the tokens `ids` behind those of the cache, and the cache with them.
        `mask` [texts, tokens of both] is 0 where a text is padded. The cache never leaves ONNX Runtime."""
        from onnxruntime import OrtValue

        feed = {"input_ids": OrtValue.ortvalue_from_numpy(ids), "attention_mask": OrtValue.ortvalue_from_numpy(mask)}
        found = self._session.run_with_ort_values(self._outputs, feed | dict(zip(self._past, cache, strict=True)))
        return found[0].numpy(), found[1:]

    def read(self, ids: Sequence[int], cache: Cache, before: int) -> tuple[Array, Cache]:
        """Logits [vocabulary] of what follows the tokens `ids` of one text, behind `before` others that the cache holds, and the
        cache with them. Long texts are read piece by piece: each token's logits are as wide as the vocabulary."""
        for start in range(0, len(ids), PIECE):
            piece = np.array([ids[start : start + PIECE]], np.int64)
            mask: Array = np.ones((1, before + start + piece.shape[1]), np.int64)
            logits, cache = self.run(piece, mask, cache)
        return logits[0, -1], cache


def write(
    decoder: Decoder,
    codec: Codec,
    settings: Settings,
    text: str,
    sampling: Sampling,
    wanted: Callable[[], bool] = lambda: True,
) -> Written:
    """Continue a text for as long as it is `wanted`, which is asked before each token but the first. Raises `BadRequest` for one
    that does not fit the model's `maxLength` tokens together with what is asked for."""
    sampling.check()
    asked = codec.prompt(text, chat=sampling.chat)
    _check_room(len(asked), sampling.max_tokens, settings["maxLength"])
    chance = np.random.default_rng(sampling.seed)
    ids: list[int] = []
    logits, cache = decoder.read(asked, decoder.empty(1), 0)
    while True:
        ids.append(choose(logits, sampling, chance))
        if ids[-1] in settings["eosTokenIds"]:
            return Written(tuple(ids), codec.said(asked, ids[:-1]), "stop")
        said = codec.said(asked, ids) if sampling.stop else ""
        if ends := [end for stop in sampling.stop if stop and (end := said.find(stop)) >= 0]:
            return Written(tuple(ids), said[: min(ends)], "stop")
        if len(ids) == sampling.max_tokens or not wanted():
            return Written(tuple(ids), codec.said(asked, ids), "length")
        logits, cache = decoder.read(ids[-1:], cache, len(asked) + len(ids) - 1)


def _check_room(asked: int, more: int, room: int) -> None:
    if asked + more > room:
        raise BadRequest(
            f"TEXT has {asked} tokens and MAX_TOKENS is {more}, which is more than the {room} that the model reads in all: "
            "shorten the text, or ask for fewer tokens"
        )


def choose(logits: Array, sampling: Sampling, chance: np.random.Generator) -> int:
    """The next token, of logits [vocabulary]."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    scaled = logits.astype(np.float64) / sampling.temperature
    likely = np.exp(scaled - scaled.max())
    likely /= likely.sum()
    order = np.argsort(-likely, kind="stable")
    kept = order[: int(np.searchsorted(np.cumsum(likely[order]), sampling.top_p)) + 1]
    return int(chance.choice(kept, p=likely[kept] / likely[kept].sum()))
