"""A model that labels words, as it is served: a label and a score for each, whatever shares the request or the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from optimodel.api.spec import Batching

from . import client
from .conftest import serve
from .server import Server
from .test_life import probe

Reference = Callable[[Path, list[str]], list[list[list[float]]]]

LABELS = ["number", "place", "person"]
TEXTS = [
    "Unhappiness rarely visits Reykjavík , said Þóra .",
    "yes",
    "(word) e-mail don't 1,234.56 naïve 東京 🚀",
    "tabs\tand\nlines   divide  words",
    "incomprehensibilities " * 30,
]


@pytest.fixture(scope="module")
def tagger(words: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(words, tmp_path_factory.mktemp("tagger"), Batching(8, (16, 64))) as server:
        yield server


def ask(server: Server, texts: list[str]) -> list[tuple[list[str], list[float]]]:
    """Labels and scores of each text's words, all texts in one request."""
    status, body = client.post(server, client.text_request(texts))
    assert status == 200, body
    found = {o["name"]: np.array(o["data"]).reshape(o["shape"]).tolist() for o in body["outputs"]}
    return list(zip(found["LABEL"], found["SCORE"], strict=True))


def right(found: tuple[list[str], list[float]], wanted: list[list[float]]) -> None:
    """Labels and scores are the wanted ones; what follows the last word is empty."""
    labels, values = found
    assert labels == [LABELS[int(np.argmax(s))] for s in wanted] + [""] * (len(labels) - len(wanted))
    assert values == pytest.approx([max(s) for s in wanted] + [0.0] * (len(values) - len(wanted)), abs=1e-3)


def test_each_word_has_the_label_of_its_first_piece(tagger: Server, words: Path, reference: Reference) -> None:
    wanted = reference(words, TEXTS)
    assert [len(scores) for scores in wanted] == [8, 1, 7, 5, 30]
    for found, scores in zip(ask(tagger, TEXTS), wanted, strict=True):
        right(found, scores)
    with ThreadPoolExecutor(5) as pool:
        for (found,), scores in zip(pool.map(lambda text: ask(tagger, [text]), TEXTS), wanted, strict=True):
            assert len(found[0]) == len(scores), "alone a text has as many labels as words"
            right(found, scores)


def test_words_beyond_the_models_limit_have_no_label(tagger: Server, words: Path, reference: Reference) -> None:
    text = "one two three " * 200
    (found,) = ask(tagger, [text])
    assert found[0].count("") == 600 - 510 and "" not in found[0][:510]
    right(found, reference(words, [text])[0])


def test_a_text_without_words_is_answered_too(tagger: Server) -> None:
    assert ask(tagger, [""]) == [([""], [0.0])]
    assert ask(tagger, [" ", "yes"])[0] == ([""], [0.0])


async def test_the_probe_asks_for_words_and_the_operator_knows_them(tagger: Server) -> None:
    assert probe(tagger).returncode == 0
    ((_, values),) = ask(tagger, ["how many rivers"])
    assert (await client.judged(tagger, "how many rivers", "SCORE", values)).ok
    wrong = await client.judged(tagger, "how many rivers", "SCORE", [values[0] + 0.1])
    assert "value 0 of SCORE" in wrong.message
