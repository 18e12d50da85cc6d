"""Distillation into some of the teacher's own layers: what is learnt, from whom, and what of rows without labels."""

from __future__ import annotations

import dataclasses
import random

import pytest
import torch
from tests.worker import tiny
from tests.worker.lessons import accuracy, digest, noted, questions, sharp

from optimodel.api.steps import Distill, FineTune, Step, Training
from optimodel.worker import steps
from optimodel.worker.data.dataset import Row
from optimodel.worker.errors import Failure
from optimodel.worker.steps import distill, finetune
from optimodel.worker.training import batches, encoding, families, folders, losses
from optimodel.worker.training.loading import load
from optimodel.worker.training.teacher import Teacher


def test_a_student_is_made_of_the_teachers_layers():
    assert distill.kept_layers(Distill("t"), 6) == (1, 3, 5)
    assert distill.kept_layers(Distill("t"), 5) == (0, 2, 4)
    assert distill.kept_layers(Distill("t"), 1) == (0,)
    assert distill.kept_layers(Distill("t", keep_layers=(0, 5)), 6) == (0, 5)
    for wrong in ((3, 1), (1, 1), (0, 6), (-1, 2)):
        with pytest.raises(Failure) as caught:
            distill.kept_layers(Distill("t", keep_layers=wrong), 6)
        assert caught.value.reason == "LayersInvalid" and "0 to 5" in caught.value.message


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("task", ["TextClassification", "TextEmbedding"])
def test_a_student_comes_closer_to_its_teacher(kind, task, tmp_path, unproven):
    """By its own data: vectors need no labels. Both folders differ only in whether the student was taught."""
    labels = ["book", "place"] if task == "TextClassification" else None
    source = sharp(kind, tmp_path / "source", labels)
    rows = [Row(row.text) for row in questions()]
    apart = {}
    for epochs, rate in ((1, "1e-12"), (8, "0.002")):
        context = tiny.context(task, tmp_path / rate, {"texts": rows})
        (tmp_path / rate).mkdir()
        training = Training(epochs=epochs, batch_size=16, learning_rate=rate)
        distill.run(Distill("texts", training=training), source, tmp_path / rate / "out", context)
        assert len(families.layers(load(tmp_path / rate / "out", task)[0])) == 2
        answers = []
        for folder in (source, tmp_path / rate / "out"):
            subject = folders.open_folder(folder, task, context)
            texts = batches.encode(subject.processor, [r.text for r in questions(40, seed=1)], 64, 0)
            with torch.no_grad():
                answers.append(subject.answer(texts.batch(range(40)))[0])
        apart[rate] = float(
            losses.soft(answers[1], answers[0], 1.0) if labels else losses.vectors(answers[1], answers[0])
        )
    print(apart)
    assert apart["0.002"] < 0.7 * apart["1e-12"]


def test_a_teacher_corrects_labels_that_are_wrong(tmp_path, unproven):
    """Three labels in ten are flipped: the student of a teacher that saw right ones is better than the same student alone."""
    source, chance = sharp("bert", tmp_path / "source", ["book", "place"]), random.Random(5)
    flipped = {"book": "place", "place": "book"}
    rows = [
        dataclasses.replace(row, label=flipped[row.label]) if chance.random() < 0.3 else row
        for row in questions(seed=5)
    ]
    (tmp_path / "teacher").mkdir()
    context = tiny.context("TextClassification", tmp_path, {"right": questions(200), "wrong": rows})
    training = Training(epochs=6, batch_size=32, learning_rate="0.002")
    finetune.run(FineTune("right", training=training), source, tmp_path / "teacher", context)
    found = {}
    for name, soft, hidden in (("taught", "0.9", "1"), ("alone", "0", "0")):
        (tmp_path / name / "out").mkdir(parents=True)
        lessons = Training(epochs=10, batch_size=16, learning_rate="0.002")
        own = dataclasses.replace(context, scratch=tmp_path / name, checkpoint=tmp_path / name / "checkpoint")
        wanted = Distill("wrong", soft=soft, hidden=hidden, training=lessons)
        distill.run(wanted, tmp_path / "teacher", tmp_path / name / "out", own)
        found[name] = accuracy(tmp_path / name / "out", questions(400, seed=9))
    print(found)
    assert found["taught"] > found["alone"] + 0.1


def test_rows_without_a_label_take_it_from_no_other(tmp_path, unproven):
    """A teacher that knows nothing, and labels on two rows of three: those are learnt, whatever it says of the rest."""
    source = sharp("bert", tmp_path / "source", ["book", "place"])
    rows = [dataclasses.replace(row, label=None) if n % 3 == 0 else row for n, row in enumerate(questions(300))]
    context = tiny.context("TextClassification", tmp_path, {"some": rows})
    lessons = Training(epochs=8, batch_size=16, learning_rate="0.002")
    distill.run(Distill("some", soft="0.1", hidden="0", training=lessons), source, tmp_path / "out", context)
    assert accuracy(source, questions(400, seed=9)) < 0.7 < 0.9 < accuracy(tmp_path / "out", questions(400, seed=9))


@pytest.mark.parametrize(("missing", "asked"), [(False, False), (True, True)])
def test_a_teacher_is_asked_for_rows_without_a_label_even_where_labels_are_all_that_counts(
    missing, asked, tmp_path, unproven
):
    source = sharp("bert", tmp_path / "source", ["book", "place"])
    rows = [dataclasses.replace(row, label=None) if missing and n == 5 else row for n, row in enumerate(questions(32))]
    context, figures = noted(tiny.context("TextClassification", tmp_path, {"some": rows}))
    distill.run(Distill("some", soft="0", hidden="0", training=Training(epochs=1)), source, tmp_path / "out", context)
    assert ("teacherRemembered" in figures) == asked


def test_an_answer_without_a_label_has_the_teachers_alone(tmp_path):
    """Each answer of a batch counts as it would in a batch of its own."""
    source = sharp("bert", tmp_path / "source", ["book", "place"])
    context = tiny.context("TextClassification", tmp_path)
    subject = folders.open_folder(source, "TextClassification", context)
    other = folders.open_folder(sharp("bert", tmp_path / "other", ["book", "place"]), "TextClassification", context)
    with torch.no_grad():
        other.model.classifier.weight.neg_()
    rows = [dataclasses.replace(row, label=None) if n % 3 == 0 else row for n, row in enumerate(questions(12))]
    texts = encoding.encoded(subject, rows, "some", partly=True)
    assert [row[0] == batches.UNKNOWN for row in texts.labels] == [row.label is None for row in rows]
    assert encoding.encoded(subject, rows, "some").labels is None, "for whom a label is a must"
    loss = losses.distillation(subject, Teacher(other, ()), 2.0, 0.25, 0.0)
    soft = losses.distillation(subject, Teacher(other, ()), 2.0, 1.0, 0.0)
    with torch.no_grad():
        whole = float(loss(texts.batch(range(12))))
        each = [float(loss(texts.batch([n]))) for n in range(12)]
        alone = [float(soft(texts.batch([n]))) for n in range(12)]
    assert whole == pytest.approx(sum(each) / 12, rel=1e-4)
    same = [one == pytest.approx(other, rel=1e-4) for one, other in zip(each, alone, strict=True)]
    assert same == [row.label is None for row in rows]


def test_sentence_documents_stay_with_embeddings(tmp_path):
    """Through the whole step; and the same input gives the same bytes."""
    source = tiny.save("bert", tmp_path / "source")
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (source / "modules.json").write_text('[{"type": "sentence_transformers.models.Pooling"}]')
    step = Step("small", "Distill", distill=Distill("t", training=Training(epochs=1)))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        steps.run(
            step, source, tmp_path / name / "out", tiny.context("TextEmbedding", tmp_path / name, {"t": questions(32)})
        )
    made = digest(tmp_path / "one" / "out")
    assert made == digest(tmp_path / "two" / "out")
    assert (tmp_path / "one" / "out" / "1_Pooling" / "config.json").read_text() == (
        source / "1_Pooling" / "config.json"
    ).read_text()
    assert {"model.safetensors", "config.json", "modules.json", "tokenizer.json", "tokenizer_config.json"} <= set(made)
    assert not [name for name in made if not name.endswith((".json", ".safetensors"))]


def test_states_of_hidden_layers_are_the_layers_own(tmp_path):
    subject = folders.open_folder(
        tiny.save("bert", tmp_path / "s"), "TextEmbedding", tiny.context("TextEmbedding", tmp_path)
    )
    seen = []
    for layer in families.layers(subject.model):
        layer.register_forward_hook(lambda m, i, o: seen.append(o))
    texts = batches.encode(subject.processor, [r.text for r in questions(8)], 64, 0)
    with torch.no_grad():
        _, states = subject.answer(texts.batch(range(8)), hidden=True)
    assert len(states) == len(seen) == 2
    assert all(torch.equal(a, b) for a, b in zip(states, seen, strict=True))
