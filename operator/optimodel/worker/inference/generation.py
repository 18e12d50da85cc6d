"""A decoder's artifact at work: what it expects, and what it writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from optimodel.api.contract import Golden
from optimodel.api.spec import Accelerator, Batching
from optimodel.backends import arithmetic, generation

from .answers import Answerer
from .fronts import Array

WINDOW = 256
"""Tokens of a text that are read, from its beginning."""
GOLDEN, LEAD = 8, 0.5
"""Tokens of a golden answer at most, and how far the logit of each lies ahead of the next best: another CPU rounds otherwise."""


class Writer(Answerer):
    """As `Answerer`, where the answer to a text is the probability of every token to follow it. Its `session` is a decoder's."""

    def __init__(self, folder: Path, threads: int, batching: Batching, accelerator: Accelerator | None = None) -> None:
        super().__init__(folder, threads, batching, accelerator)
        self.decoder = generation.Decoder(self.session)
        self.codec = generation.Codec(str(folder / "tokenizer.json"), self._settings)

    def run(self, inputs: dict[str, Array]) -> Array:
        """Probabilities [texts, vocabulary] of the next token."""
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        logits, _ = self.decoder.run(ids, mask, self.decoder.empty(len(ids)))
        return arithmetic.softmax(logits[np.arange(len(ids)), mask.sum(axis=1) - 1])

    def window(self, text: str) -> list[int]:
        """The tokens of a text that are read."""
        return self.codec.encode(text)[: min(WINDOW, self.description.max_length)]

    def expects(self, ids: Sequence[int]) -> tuple[float, Array]:
        """The sum of −ln p of all tokens but the first, each from those before it, and the likeliest token in each place."""
        row = np.array([ids], np.int64)
        logits = self.decoder.run(row, np.ones_like(row), self.decoder.empty(1))[0][0, :-1].astype(np.float64)
        highest = logits.max(axis=1)
        total = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
        return float((total - logits[np.arange(len(logits)), row[0, 1:]]).sum()), logits.argmax(axis=1)

    def golden(self, texts: Sequence[str]) -> Golden:
        """The surest beginning of what is written behind one of these texts: its first tokens."""
        text, ids = max(((text, self._sure(text)) for text in texts), key=lambda found: len(found[1]))
        return Golden(text, "TOKENS", tuple(map(str, ids)), max_tokens=len(ids))

    def _sure(self, text: str) -> list[int]:
        """The likeliest tokens behind a text, as far as each is clearly ahead; at least one."""
        asked, found = self.codec.prompt(text), list[int]()
        logits, cache = self.decoder.read(asked, self.decoder.empty(1), 0)
        while True:
            second, first = np.partition(logits, -2)[-2:]
            if found and first - second < LEAD:
                return found
            found.append(int(logits.argmax()))
            if len(found) == GOLDEN or found[-1] in self.description.eos_token_ids:
                return found
            logits, cache = self.decoder.read(found[-1:], cache, len(asked) + len(found) - 1)
