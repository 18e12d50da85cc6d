"""Models that label words, on tiny ones: each word is answered by its first piece, in training, in the graph and as served."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from tests.worker import tiny
from tests.worker.test_training import noted
from transformers import AutoModelForTokenClassification, AutoTokenizer

from optimodel.api.spec import Batching
from optimodel.api.steps import Distill, FineTune, Prune, Recover, Step, Training
from optimodel.worker import steps
from optimodel.worker.answers import Answerer, cosines
from optimodel.worker.dataset import Row
from optimodel.worker.errors import Failure
from optimodel.worker.evaluate import batch_invariance, golden
from optimodel.worker.quality import measured
from optimodel.worker.steps import distill, finetune, prune, technique
from optimodel.worker.training import encoding, folders
from optimodel.worker.training.teacher import Teacher

QUICK = Training(epochs=6, batch_size=16, learning_rate="0.003", warmup="0.1")
LABELS = ["other", "seat", "word"]
TEXTS = ["what is the capital-of peru?", "yes", "name (a) fish, word1-word2 word3!", "", "word4 " * 40]
"""The tokenizer makes several pieces of a word with marks in it; the last text is longer than the first bucket."""


def rows(count=160, seed=0):
    """The word after `the` is a seat, whatever it is; words with marks have several pieces. The rest tells itself."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        words = [chance.choice(["what", "is", f"word{chance.randrange(60)}", "fish,name"]) for _ in range(9)]
        at = chance.randrange(1, 9)
        words[at - 1] = "the"
        tags = ["word" if word.startswith("word") else "other" for word in words]
        tags[at] = "seat"
        found.append(Row(" ".join(words), tuple(tags)))
    return found


def expected(folder, text):
    """Scores of each word by transformers itself, which is given the words one by one."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForTokenClassification.from_pretrained(folder).eval()
    encoded = tokenizer(text.split(), is_split_into_words=True, return_tensors="pt", truncation=True, max_length=68)
    words = encoded.word_ids()
    with torch.no_grad():
        found = model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]).logits[0].softmax(-1)
    return np.stack([found[words.index(n)].numpy() for n in range(len(text.split()))])


def accuracy(folder, wanted):
    right = [LABELS[n] for row in wanted for n in expected(folder, row.text).argmax(1)]
    truth = [label for row in wanted for label in row.label]
    return np.mean([a == b for a, b in zip(right, truth, strict=True)])


@pytest.fixture
def unproven(monkeypatch):
    """Without the fresh process, whose start takes seconds: the first test has it."""
    monkeypatch.setattr(technique, "verify", lambda *args, **options: {})


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_the_graph_answers_each_word_as_transformers_does(kind, tmp_path):
    source = tiny.save(kind, tmp_path / "source", LABELS, words=True)
    steps.run(Step("graph", "Export"), source, tmp_path / "graph", tiny.context("TokenClassification", tmp_path))
    answerer = Answerer(tmp_path / "graph", 1, Batching(length_buckets=(16, 32)))
    for text in TEXTS[:3]:
        np.testing.assert_allclose(answerer.alone(text), expected(source, text), atol=2e-5)
    assert answerer.description.labels == tuple(LABELS)
    public = answerer.public(answerer.run(answerer.encode(TEXTS)))
    assert public["LABEL"].shape == public["SCORE"].shape == (5, 40)
    assert [sum(label != b"" for label in row) for row in public["LABEL"]] == [5, 1, 5, 0, 40]
    assert batch_invariance(answerer) > 0.99999
    remembered = golden(answerer)
    assert (remembered.output, len(remembered.head)) == ("SCORE", 6)
    if kind == "bert":
        steps.run(
            Step("int8", "Quantize"),
            tmp_path / "graph",
            tmp_path / "int8",
            tiny.context("TokenClassification", tmp_path),
        )
        small = Answerer(tmp_path / "int8", 1, Batching())
        assert cosines(small.alone(TEXTS[2]), answerer.alone(TEXTS[2])).min() > 0.9


@pytest.mark.parametrize(("kind", "method"), [("bert", "Full"), ("roberta", "LoRA"), ("distilbert", "Full")])
def test_an_encoder_learns_to_label_words_by_what_stands_before_them(kind, method, tmp_path, unproven):
    source = tiny.save(kind, tmp_path / "source")
    context, figures = noted(tiny.context("TokenClassification", tmp_path, {"train": rows()}))
    training = Training(epochs=12, batch_size=16, learning_rate="0.01" if method == "LoRA" else "0.003")
    finetune.run(FineTune("train", method=method, training=training), source, tmp_path / "out", context)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["id2label"] == dict(
        zip("012", LABELS, strict=True)
    )
    assert figures["loss"]["last"] < 0.5 * figures["loss"]["first"]
    assert accuracy(tmp_path / "out", rows(30, seed=1)) > 0.9, "a seat is known by the word before it alone"


def test_a_new_head_alone_learns_what_words_tell_themselves(tmp_path, unproven):
    source = tiny.save("bert", tmp_path / "source", ["a", "b"], words=True)
    context, figures = noted(tiny.context("TokenClassification", tmp_path, {"train": rows()}))
    head = FineTune("train", method="Head", training=Training(epochs=6, batch_size=16, learning_rate="0.02"))
    finetune.run(head, source, tmp_path / "out", context)
    assert figures["trainableShare"] < 0.01 and figures["loss"]["last"] < 0.8 * figures["loss"]["first"]
    assert json.loads((tmp_path / "out" / "config.json").read_text())["label2id"] == {"other": 0, "seat": 1, "word": 2}
    with pytest.raises(Failure) as caught:
        finetune.run(FineTune("train", training=QUICK), source, tmp_path / "kept", context)
    assert caught.value.reason == "LabelsMismatch"


def test_labels_belong_to_first_pieces_and_those_cut_off_do_not_count(tmp_path):
    source = tiny.save("bert", tmp_path / "source", LABELS, words=True)
    subject = folders.open_folder(source, "TokenClassification", tiny.context("TokenClassification", tmp_path))
    data = [Row("fish,name the word1", ("word", "other", "seat")), Row("yes", ("other",))]
    batch = encoding.encoded(subject, data, "d").batch([0, 1])
    assert batch.labels.tolist() == [2, 0, 1, 0] and batch.answers == [3, 1]
    assert batch.answering.nonzero().tolist() == [[0, 1], [0, 4], [0, 5], [1, 1]]
    assert subject.answer(batch)[0].shape == (4, 3)
    short = encoding.encoded(subject, data, "d", 5)
    assert short.batch([0]).labels.tolist() == [2] and short.places == [[1], [1]]


def test_what_a_teacher_remembers_it_would_say_again(tmp_path):
    source = tiny.save("bert", tmp_path / "source", LABELS, words=True)
    subject = folders.open_folder(source, "TokenClassification", tiny.context("TokenClassification", tmp_path))
    texts = encoding.encoded(subject, rows(50), "d")
    batch, asked = texts.batch([7, 3, 41]), Teacher(subject, [1])
    wanted, states = asked(batch)
    assert asked.remember(texts)
    again, kept = asked(batch)
    assert torch.allclose(again, wanted, atol=1e-5) and torch.allclose(kept[0], states[0], atol=1e-5)


def test_a_student_and_a_thinner_model_answer_like_the_one_before(tmp_path, unproven):
    """Distilled on texts without labels, and pruned with recovery: each nearer to its teacher than untaught."""
    context = tiny.context("TokenClassification", tmp_path, {"train": rows(), "texts": [Row(r.text) for r in rows()]})
    (tmp_path / "teacher").mkdir()
    source = tiny.save("bert", tmp_path / "source")
    finetune.run(FineTune("train", training=Training(12, 16, "0.003")), source, tmp_path / "teacher", context)
    found = {}
    for name, rate in (("untaught", "1e-12"), ("taught", "0.003")):
        lessons = Training(epochs=8, batch_size=16, learning_rate=rate)
        for step, out, settings in (
            (distill, f"small-{name}", Distill("texts", training=lessons)),
            (
                prune,
                f"thin-{name}",
                Prune("FFN", keep="0.25", data="train", recover=Recover("texts", training=lessons)),
            ),
        ):
            (tmp_path / out).mkdir()
            step.run(settings, tmp_path / "teacher", tmp_path / out, context)
            found[out] = accuracy(tmp_path / out, rows(25, seed=2))
    print(found)
    assert found["thin-taught"] > 0.9 and found["thin-taught"] >= found["thin-untaught"]
    assert found["small-taught"] > found["small-untaught"] + 0.05
    for method in ("Heads", "Layers"):
        (tmp_path / method).mkdir()
        prune.run(Prune(method, keep="0.5", data="train"), tmp_path / "teacher", tmp_path / method, context)
        assert accuracy(tmp_path / method, rows(5)) > 0


def test_a_word_without_an_answer_is_a_wrong_one():
    labels, data = ["a", "b"], [Row("x y", ("a", "b")), Row("z", ("b",))]
    full, cut = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.9, 0.1], [0.0, 0.0]])
    last = np.array([[0.4, 0.6]])
    measurements, quality = measured([full, last], [cut, last], data, labels, "d")
    assert (quality["baselineAccuracy"], quality["accuracy"], quality["words"]) == (1, pytest.approx(2 / 3), 3)
    assert quality["confusion"] == {
        "labels": ["a", "b", "(no answer)"],
        "cells": [[0, 0, 0, 1], [1, 1, 1, 1], [1, 1, 2, 1]],
    }
    assert measurements["Accuracy"].rows == pytest.approx(9 / 5)
