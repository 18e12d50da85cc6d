"""Words and their labels: read from rows, found among tokens, answered, and counted as evidence."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimodel.api.sources import PVC, Dataset, Part, Split
from optimodel.backends.arithmetic import answer, first_tokens, outputs
from optimodel.worker.data import dataset
from optimodel.worker.data.rows import WORDS, Row
from optimodel.worker.errors import Failure
from optimodel.worker.tasks import KINDS, made_for

SETTINGS = {"task": "TokenClassification", "labels": ["DT", "NN", "VB"]}


def load(tmp_path, name, text, **fields):
    (tmp_path / "d").mkdir(exist_ok=True)
    (tmp_path / "d" / name).write_text(text)
    return dataset.load(Dataset("d", pvc=PVC("claim", name), **fields), {}, tmp_path, WORDS)


def test_lists_and_texts_of_words_are_the_same_rows(tmp_path):
    wanted = [Row("The dog runs", ("DT", "NN", "VB"))]
    lists = json.dumps({"tokens": ["The", "dog", "runs"], "tags": ["DT", "NN", "VB"]})
    assert load(tmp_path, "a.jsonl", lists) == wanted
    assert load(tmp_path, "a.jsonl", json.dumps({"text": " The dog\nruns", "label": ["DT", "NN", "VB"]})) == wanted
    assert load(tmp_path, "a.csv", "tokens,tags\nThe dog runs,DT NN VB\n") == wanted
    own = json.dumps({"words": ["The", "dog", "runs"], "ner": [0, 1, 2]})
    assert load(tmp_path, "a.jsonl", own, text_field="words", label_field="ner") == [Row("The dog runs", (0, 1, 2))]
    for name, text in (("a.jsonl", '{"tokens": ["Who"]}'), ("a.csv", "tokens,tags\nWho,\n")):
        assert load(tmp_path, name, text) == [Row("Who")]


@pytest.mark.parametrize(
    "row",
    [
        {"tokens": ["a", "b"], "tags": ["x"]},
        {"tokens": ["a b"], "tags": ["x"]},
        {"tokens": ["a", ""], "tags": ["x", "y"]},
        {"tokens": [], "tags": []},
        {"tokens": ["a"], "tags": [True]},
        {"tokens": ["a"], "tags": [None]},
        {"tokens": ["a"], "tags": 3},
        {"text": " "},
        {"words": ["a"]},
    ],
)
def test_rows_whose_labels_are_not_those_of_their_words_are_refused(tmp_path, row):
    with pytest.raises(Failure) as caught:
        load(tmp_path, "a.jsonl", json.dumps(row))
    assert caught.value.reason == "DataInvalid" and "line 1" in caught.value.message


def test_every_label_of_words_reaches_the_first_part():
    """Rows are drawn by their rarest label: by all their labels each would be alone, and by none rare ones might be missed."""
    rows = [Row(f"w{i} x y", ("often", f"rare{i % 40}", "often")) for i in range(100)]
    split = Split((Part("train", 60), Part("test", 40)))
    train, test = (dataset.part(rows, split, name, "d") for name in ("train", "test"))
    assert not {row.text for row in train} & {row.text for row in test} and len(train) + len(test) == 100
    assert {label for row in train for label in row.labels} == {label for row in rows for label in row.labels}
    assert 30 <= len(test) <= 45


@pytest.mark.parametrize(
    ("text", "offsets", "found"),
    [
        ("Is it unhappy ?", [(0, 0), (0, 2), (3, 5), (6, 8), (8, 13), (14, 15), (0, 0)], [1, 2, 3, 5]),
        ("  a\tb ", [(0, 0), (2, 3), (4, 5), (0, 0)], [1, 2]),
        ("a b c", [(0, 0), (0, 1), (1, 3), (0, 0)], [1, 2, -1]),
        ("a \u200b b", [(0, 1), (4, 5)], [0, -1, 1]),
        ("", [(0, 0), (0, 0)], []),
    ],
    ids=["pieces", "white-space", "cut-off", "without-a-token", "empty"],
)
def test_the_first_token_of_a_word_answers_for_it(text, offsets, found):
    assert first_tokens(text, offsets) == found


@given(st.lists(st.text("ab-", min_size=1, max_size=6), max_size=8), st.integers(0, 30))
def test_every_word_that_is_not_cut_off_has_its_first_token(words, kept):
    """A token for each character, and a cut after some of them."""
    text = " ".join(words)
    offsets = [(i, i + 1) for i, c in enumerate(text) if c != " "][:kept]
    starts = [sum(map(len, words[:n])) for n in range(len(words))]
    assert first_tokens(text, offsets) == [s if s < kept else -1 for s in starts]


def test_words_are_answered_by_their_first_tokens():
    logits = np.zeros((2, 4, 3), np.float32)
    logits[0, 1, 2] = logits[0, 2, 1] = logits[1, 3, 0] = 9.0
    places = np.array([[1, 2, 0], [3, -1, -1]])
    scores = answer(SETTINGS, {"logits": logits, "word_tokens": places})
    assert scores.shape == (2, 3, 3) and np.allclose(scores.sum(-1), places >= 0)
    found = outputs(SETTINGS, scores)
    assert list(found) == ["SCORE", "LABEL"], "the numbers come first: they are remembered as golden"
    assert found["LABEL"].tolist() == [[b"VB", b"NN", b"DT"], [b"DT", b"", b""]]
    assert found["SCORE"].dtype == np.float32 and np.allclose(found["SCORE"][1], [scores[1, 0, 0], 0, 0])


def test_a_task_is_known_by_the_name_of_its_class():
    for task, kind in KINDS.items():
        assert made_for(f"Roberta{kind.architecture or 'Model'}") == task
    assert made_for("") == "TextEmbedding"
