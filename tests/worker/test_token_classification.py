"""Models that label words, on tiny ones: each word is answered by its first piece, in training, in the graph and as served."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from tests.worker import tiny
from tests.worker.lessons import noted
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForTokenClassification, AutoTokenizer

from optimodel.api.spec import Batching
from optimodel.api.steps import Distill, FineTune, Prune, Recover, Step, Training
from optimodel.backends import arithmetic
from optimodel.worker import steps
from optimodel.worker.data.dataset import Row
from optimodel.worker.errors import Failure
from optimodel.worker.evidence.evaluate import batch_invariance, golden
from optimodel.worker.evidence.quality import measured
from optimodel.worker.inference.answers import Answerer, cosines
from optimodel.worker.steps import distill, finetune, prune, technique
from optimodel.worker.training import batches, encoding, folders
from optimodel.worker.training.teacher import Teacher

LONG = Training(epochs=30, batch_size=16, learning_rate="0.003", warmup="0.1")
LABELS = ["book", "other", "place", "word"]
TEXTS = ["what is the capital-of peru?", "yes", "name (a) fish, word1-word2 word3!", "", "word4 " * 40]
"""The tokenizer makes several pieces of a word with marks in it; the last text is longer than the first bucket."""


def rows(count=160, seed=0):
    """A fish is a place or a book by what else the text names; other words tell themselves, some of them in several pieces."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        theme, tag = (("capital", "place"), ("novel", "book"))[number % 2]
        noise = [
            (f"word{chance.randrange(60)}", "word") if chance.random() < 0.5 else ("what,is", "other") for _ in range(5)
        ]
        words = [(theme, "other"), ("fish", tag), ("fish", tag), *noise]
        chance.shuffle(words)
        found.append(Row(" ".join(word for word, _ in words), tuple(tag for _, tag in words)))
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


def test_the_graph_answers_each_word_as_transformers_does(tmp_path):
    source = tiny.save("distilbert", tmp_path / "source", LABELS, words=True)
    steps.run(Step("graph", "Export"), source, tmp_path / "graph", tiny.context("TokenClassification", tmp_path))
    answerer = Answerer(tmp_path / "graph", 1, Batching(length_buckets=(16, 32)))
    for text in TEXTS[:3]:
        np.testing.assert_allclose(answerer.alone(text), expected(source, text), atol=2e-5)
    assert answerer.description.labels == tuple(LABELS)
    public = answerer.public(answerer.run(answerer.front.encode(TEXTS)))
    assert public["LABEL"].shape == public["SCORE"].shape == (5, 40)
    assert [sum(label != b"" for label in row) for row in public["LABEL"]] == [5, 1, 5, 0, 40]
    assert batch_invariance(answerer) > 0.99999
    remembered = golden(answerer)
    assert (remembered.output, len(remembered.head)) == ("SCORE", 6)


def test_words_of_a_text_without_labels_have_none(tmp_path):
    """As many places as words that were not cut off, whether somebody said what they are or not."""
    source = tiny.save("distilbert", tmp_path / "source", LABELS, words=True)
    subject = folders.open_folder(source, "TokenClassification", tiny.context("TokenClassification", tmp_path))
    some = [Row("what,is  fish", ("other", "place")), Row("word4 " * 40), Row("what,is\tthe fish ")]
    found = encoding.encoded(subject, some, "some", 16, partly=True)
    assert found.labels[0] == [1, 2] and {n for row in found.labels[1:] for n in row} == {batches.UNKNOWN}
    assert [len(row) for row in found.labels] == [len(row) for row in found.places] and len(found.labels[2]) == 3


WORDS = ["Unhappiness rarely visits Reykjavík , said Þóra .", "naïve 東京 🚀 e-mail don't", "  two\tspaces\n and tabs "]


@pytest.mark.parametrize("trained", ["bytes", "bytes with their spaces", "spaces", "pieces"])
def test_the_first_piece_of_a_word_is_found_whatever_the_tokenizer_does_with_spaces(trained):
    special = {"special_tokens": ["<s>", "</s>", "<unk>"], "show_progress": False}
    template = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    if trained == "pieces":
        tokenizer, trainer = Tokenizer(models.WordPiece(unk_token="<unk>")), trainers.WordPieceTrainer(**special)
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        letters = [] if trained == "spaces" else pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=letters, **special)
        tokenizer.pre_tokenizer = (
            pre_tokenizers.ByteLevel(add_prefix_space=False) if letters else pre_tokenizers.Metaspace()
        )
    tokenizer.train_from_iterator(["unhappiness rarely said don't mail"] * 5, trainer)
    bytes_ = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), trim_offsets=trained == "bytes")
    tokenizer.post_processor = bytes_ if trained.startswith("bytes") else template
    for text in WORDS:
        offsets = tokenizer.encode(text).offsets
        starts = [match.start() for match in arithmetic.WORD.finditer(text)]
        places = arithmetic.first_tokens(text, offsets)
        assert all(offsets[place][0] <= start < offsets[place][1] for start, place in zip(starts, places, strict=True))
        assert places == sorted(set(places)) and len(places) == len(text.split())


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A tiny BERT that has learnt to label words, what was noted of it, and its folder."""
    made = tmp_path_factory.mktemp("teacher")
    context, figures = noted(tiny.context("TokenClassification", made, {"train": rows()}))
    (made / "out").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(technique, "verify", lambda *args, **options: {})
        finetune.run(FineTune("train", training=LONG), tiny.save("bert", made / "source"), made / "out", context)
    return made / "out", figures


def test_an_encoder_learns_to_label_words_by_what_stands_around_them(teacher):
    folder, figures = teacher
    assert json.loads((folder / "config.json").read_text())["id2label"] == dict(zip("0123", LABELS, strict=True))
    assert figures["loss"]["last"] < 0.2 * figures["loss"]["first"]
    assert accuracy(folder, rows(30, seed=1)) > 0.95, "without the others' help 7 of 8"


def test_adapters_learn_words_too(tmp_path, unproven):
    context, figures = noted(tiny.context("TokenClassification", tmp_path, {"train": rows()}))
    settings = FineTune("train", method="LoRA", training=Training(6, 16, "0.01"))
    finetune.run(settings, tiny.save("roberta", tmp_path / "source"), tmp_path / "out", context)
    assert figures["trainableShare"] < 0.35 and figures["loss"]["last"] < 0.5 * figures["loss"]["first"]


def test_a_new_head_alone_learns_what_words_tell_themselves(tmp_path, unproven):
    source = tiny.save("bert", tmp_path / "source", ["a", "b"], words=True)
    context, figures = noted(tiny.context("TokenClassification", tmp_path, {"train": rows()}))
    head = FineTune("train", method="Head", training=Training(epochs=6, batch_size=16, learning_rate="0.02"))
    finetune.run(head, source, tmp_path / "out", context)
    assert figures["trainableShare"] < 0.01 and figures["loss"]["last"] < 0.8 * figures["loss"]["first"]
    assert json.loads((tmp_path / "out" / "config.json").read_text())["label2id"] == {
        name: n for n, name in enumerate(LABELS)
    }
    with pytest.raises(Failure) as caught:
        finetune.run(FineTune("train", training=LONG), source, tmp_path / "kept", context)
    assert caught.value.reason == "LabelsMismatch"


def test_labels_belong_to_first_pieces_and_those_cut_off_do_not_count(tmp_path):
    source = tiny.save("bert", tmp_path / "source", LABELS, words=True)
    subject = folders.open_folder(source, "TokenClassification", tiny.context("TokenClassification", tmp_path))
    data = [Row("fish,name the word1", ("word", "book", "other")), Row("yes", ("book",))]
    batch = encoding.encoded(subject, data, "d").batch([0, 1])
    assert batch.labels.tolist() == [3, 0, 1, 0] and batch.answers == [3, 1]
    assert batch.answering.nonzero().tolist() == [[0, 1], [0, 4], [0, 5], [1, 1]]
    assert subject.answer(batch)[0].shape == (4, 4)
    short = encoding.encoded(subject, data, "d", 5)
    assert short.batch([0]).labels.tolist() == [3] and short.places == [[1], [1]]


def test_what_a_teacher_remembers_it_would_say_again(tmp_path):
    source = tiny.save("bert", tmp_path / "source", LABELS, words=True)
    subject = folders.open_folder(source, "TokenClassification", tiny.context("TokenClassification", tmp_path))
    texts = encoding.encoded(subject, rows(50), "d")
    batch, asked = texts.batch([7, 3, 41]), Teacher(subject, [1])
    wanted, states = asked(batch)
    assert asked.remember(texts)
    again, kept = asked(batch)
    assert torch.allclose(again, wanted, atol=1e-5) and torch.allclose(kept[0], states[0], atol=1e-5)


def test_a_student_and_a_thinner_model_learn_from_the_one_before(teacher, tmp_path, unproven):
    """On texts without labels: both answer more words like it than the same model untaught."""
    source, _ = teacher
    context = tiny.context("TokenClassification", tmp_path, {"texts": [Row(row.text) for row in rows(seed=3)]})
    found = {}
    for rate in ("1e-12", "0.003"):
        lessons = Training(epochs=4 if rate == "0.003" else 1, batch_size=16, learning_rate=rate)
        for step, name, settings in (
            (distill, "student", Distill("texts", training=lessons)),
            (prune, "thinner", Prune("FFN", keep="0.1", data="texts", recover=Recover("texts", training=lessons))),
        ):
            out = tmp_path / f"{name}-{rate}"
            out.mkdir()
            step.run(settings, source, out, context)
            found[name, rate] = accuracy(out, rows(25, seed=2))
    print(found)
    for name in ("student", "thinner"):
        assert found[name, "0.003"] > found[name, "1e-12"] + 0.02


@pytest.mark.parametrize("method", ["Heads", "Layers"])
def test_what_matters_least_to_words_is_pruned(method, teacher, tmp_path, unproven):
    source, _ = teacher
    context, figures = noted(tiny.context("TokenClassification", tmp_path, {"train": rows(40)}))
    (tmp_path / "out").mkdir()
    prune.run(Prune(method, keep="0.5", data="train"), source, tmp_path / "out", context)
    assert figures["parameters"]["after"] < figures["parameters"]["before"]
    assert accuracy(tmp_path / "out", rows(20, seed=2)) > 0.5, (
        "a quarter of the words is a fish, half of them tell themselves"
    )


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


def test_answers_to_texts_of_different_lengths_are_compared_each_as_a_whole():
    one, two = np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    assert cosines([one, two], [one, two * [[1], [0]]]) == pytest.approx([1, 0.5**0.5])
