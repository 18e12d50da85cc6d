"""Fine-tuning and distillation on tiny models: what is learnt, what is frozen, what is refused, and what a kill costs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.worker import tiny
from transformers import AutoModelForSequenceClassification

from optimodel.api.steps import Adversarial, Distill, FineTune, Step, Training
from optimodel.worker import steps
from optimodel.worker.data.dataset import Row
from optimodel.worker.errors import Failure
from optimodel.worker.steps import distill, finetune
from optimodel.worker.training import (
    adapters,
    adversarial,
    batches,
    encoding,
    families,
    folders,
    freezing,
    loop,
    losses,
)
from optimodel.worker.training.loading import load
from optimodel.worker.training.teacher import Teacher

QUICK = Training(epochs=4, batch_size=16, learning_rate="0.002", warmup="0.1")


def questions(count=160, seed=0):
    """Texts whose label is told by one word of two; the rest is noise."""
    chance = random.Random(seed)
    rows = []
    for number in range(count):
        noise = [f"word{chance.randrange(200)}" for _ in range(chance.randint(2, 9))]
        noise.insert(chance.randrange(len(noise)), "capital" if number % 2 else "novel")
        rows.append(Row(" ".join(noise), "place" if number % 2 else "book"))
    return rows


def sharp(kind, folder, labels=None):
    """A tiny model of four layers with such weights that every layer changes the answer much."""
    config, *others, size = tiny.KINDS[kind]
    depth = families.FAMILIES[kind].depth
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny.KINDS, kind, (config, *others, size | {depth: 4}))
        tiny.save(kind, folder, labels)
    weights = load_file(folder / "model.safetensors")
    strong = {
        name: value * 3 if value.dim() == 2 and "embeddings" not in name else value for name, value in weights.items()
    }
    save_file(strong, folder / "model.safetensors", {"format": "pt"})
    return folder


def digest(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def noted(context):
    """The context, and the figures that the step leaves with it."""
    found = {}
    return dataclasses.replace(context, note=found.__setitem__), found


def accuracy(folder, rows):
    """By transformers alone."""
    model, tokenizer = load(folder, "TextClassification")
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    encoded = tokenizer([row.text for row in rows], return_tensors="pt", padding=True)
    with torch.no_grad():
        found = model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]).logits.argmax(-1)
    return sum(model.config.id2label[int(n)] == row.label for n, row in zip(found, rows, strict=True)) / len(rows)


@pytest.fixture
def unproven(monkeypatch):
    """Without the fresh process, whose start takes seconds: other tests have it."""
    from optimodel.worker.steps import technique

    monkeypatch.setattr(technique, "verify", lambda *args, **options: {})


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_an_encoder_becomes_a_classifier(kind, tmp_path):
    """Through the whole step: the folder loads by transformers alone, with the labels, and the embeddings did not move."""
    source = tiny.save(kind, tmp_path / "source")
    context, figures = noted(tiny.context("TextClassification", tmp_path, {"train": questions()}))
    step = Step("adapt", "FineTune", fine_tune=FineTune("train", training=QUICK))
    steps.run(step, source, tmp_path / "out", context)
    assert accuracy(tmp_path / "out", questions(seed=1)) > 0.9
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["id2label"] == {"0": "book", "1": "place"} and config["label2id"] == {"book": 0, "place": 1}
    assert figures["loss"]["last"] < figures["loss"]["first"] and figures["loss"]["steps"] == 40
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("source", "out"))
    same = {
        name.removeprefix(f"{kind}."): bool((before[name.removeprefix(f"{kind}.")] == value).all())
        for name, value in after.items()
        if "_embeddings.weight" in name
    }
    assert same and all(same.values())


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize(("method", "epochs"), [("Head", 40), ("LoRA", 20)])
def test_less_than_everything_can_learn(kind, method, epochs, tmp_path, unproven):
    source = tiny.save(kind, tmp_path / "source")
    context, figures = noted(tiny.context("TextClassification", tmp_path, {"train": questions()}))
    training = Training(epochs=epochs, batch_size=16, learning_rate="0.003")
    finetune.run(FineTune("train", method=method, training=training), source, tmp_path / "out", context)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("source", "out"))
    assert not [name for name in after if "lora" in name]
    family = families.FAMILIES[kind]
    moved = {n for n in before if "pooler" not in n and bool((before[n] != after[f"{kind}.{n}"]).any())}
    linears = {f"{family.layers}.{i}.{path}.weight" for i in range(2) for path in family.linears}
    assert moved == (linears if method == "LoRA" else set())
    assert figures["trainableShare"] < 0.35
    assert figures["loss"]["last"] < (0.5 if method == "LoRA" else 0.95) * figures["loss"]["first"], figures["loss"]


def test_a_head_keeps_its_labels_or_is_made_anew(tmp_path, unproven):
    source = tiny.save("bert", tmp_path / "source", ["place", "book"])
    context = tiny.context(
        "TextClassification", tmp_path, {"train": questions(), "odd": [Row("a", "x"), Row("b", "y")]}
    )
    finetune.run(FineTune("train", training=QUICK), source, tmp_path / "kept", context)
    assert json.loads((tmp_path / "kept" / "config.json").read_text())["id2label"] == {"0": "place", "1": "book"}
    assert accuracy(tmp_path / "kept", questions(seed=1)) > 0.9
    with pytest.raises(Failure) as caught:
        finetune.run(FineTune("odd", training=QUICK), source, tmp_path / "odd", context)
    assert caught.value.reason == "LabelsMismatch" and "place, book" in caught.value.message
    finetune.run(FineTune("odd", method="Head", training=QUICK), source, tmp_path / "new", context)
    assert json.loads((tmp_path / "new" / "config.json").read_text())["id2label"] == {"0": "x", "1": "y"}


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([Row("a", "x"), Row("b", None)], "LabelMissing"),
        ([Row("a", "x"), Row("b", "x")], "OneClass"),
        ([Row("a", 1), Row("b", 2)], "LabelsMismatch"),
    ],
)
def test_labels_that_teach_nothing_are_refused(rows, reason, tmp_path):
    source = tiny.save("bert", tmp_path / "source")
    with pytest.raises(Failure) as caught:
        steps.run(
            Step("adapt", "FineTune", fine_tune=FineTune("t", training=QUICK)),
            source,
            tmp_path / "out",
            tiny.context("TextClassification", tmp_path, {"t": rows}),
        )
    assert caught.value.reason == reason and caught.value.message.endswith(".")
    assert not (tmp_path / "out").exists()


def test_a_loss_that_explodes_ends_the_step(tmp_path):
    source = tiny.save("bert", tmp_path / "source")
    wild = FineTune("train", training=Training(epochs=3, batch_size=16, learning_rate="1e30", warmup="0"))
    with pytest.raises(Failure) as caught:
        steps.run(
            Step("adapt", "FineTune", fine_tune=wild),
            source,
            tmp_path / "out",
            tiny.context("TextClassification", tmp_path, {"train": questions()}),
        )
    assert caught.value.reason == "LossNotFinite" and "1e30" in caught.value.message
    assert not (tmp_path / "out").exists()


class Killed(BaseException):
    """What a test throws where a kill would strike."""


@pytest.mark.parametrize(
    ("task", "method"), [("TextClassification", "Full"), ("TextClassification", "LoRA"), ("TextGeneration", "Full")]
)
def test_a_training_killed_anywhere_ends_with_the_same_bytes(task, method, tmp_path, unproven, monkeypatch):
    """Killed again and again at steps drawn at random, it goes on from its checkpoints; dropout and order included."""
    source = tiny.save_decoder(tmp_path / "s") if task == "TextGeneration" else tiny.save("bert", tmp_path / "s")
    settings = FineTune("train", method=method, training=QUICK)
    monkeypatch.setattr(loop, "CHECKPOINT_STEPS", 6)
    monkeypatch.setattr(loop.train, "__kwdefaults__", loop.train.__kwdefaults__ | {"checkpoint_steps": 6})
    quiet = tiny.context(task, tmp_path / "a", {"train": questions()})
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    finetune.run(settings, source, tmp_path / "whole", quiet)
    chance, kills, done = random.Random(1), 0, []

    def report(percent, word):
        if " at step " in word:
            done.append(int(word.split(" at step ")[1].split()[0]))
            if kills < 5 and chance.random() < 0.15:
                raise Killed

    context = dataclasses.replace(tiny.context(task, tmp_path / "b", {"train": questions()}), report=report)
    while True:
        try:
            finetune.run(settings, source, tmp_path / "resumed", context)
            break
        except Killed:
            kills += 1
            shutil.rmtree(tmp_path / "resumed", ignore_errors=True)
    assert kills == 5
    assert len(done) <= 40 + 5 * 6, "a kill costs at most one interval"
    assert digest(tmp_path / "resumed") == digest(tmp_path / "whole")


def test_the_order_covers_every_row_once_an_epoch_and_depends_on_the_seed():
    lengths = [3 + n % 20 for n in range(500)]
    first = batches.shuffled(lengths, 32, 0, 0)
    assert sorted(row for rows in first for row in rows) == list(range(500))
    assert first == batches.shuffled(lengths, 32, 0, 0) != batches.shuffled(lengths, 32, 0, 1)
    assert first != batches.shuffled(lengths, 32, 1, 0)
    padded = sum(max(lengths[row] for row in rows) * len(rows) for rows in first)
    assert padded < 1.15 * sum(lengths), "texts of about one length share a batch"


def test_merged_adapters_answer_as_they_did_before(tmp_path):
    model, _ = load(tiny.save("distilbert", tmp_path / "s", ["a", "b"]), "TextClassification")
    ids = torch.randint(5, 200, (4, 9))
    with adapters.adapters(model, 4, 8):
        with torch.no_grad():
            for name, value in model.named_parameters():
                if "lora_B" in name:
                    value.normal_(std=0.1)
        with torch.no_grad():
            expected = model(input_ids=ids).logits
    with torch.no_grad():
        assert torch.allclose(model(input_ids=ids).logits, expected, atol=1e-4)
    assert not [name for name, _ in model.named_parameters() if "lora" in name]


def test_adversarial_training_withstands_more(tmp_path, unproven):
    """Accuracy under the perturbation on texts of their own: hardened training against the same training without its weight."""
    source = tiny.save("bert", tmp_path / "source", ["book", "place"])
    rows, attacked = questions(300, seed=9), {}
    for weight in ("0", "1"):
        (tmp_path / weight).mkdir()
        context, figures = noted(tiny.context("TextClassification", tmp_path / weight, {"train": questions(240)}))
        training = Training(epochs=25, batch_size=16, learning_rate="0.002")
        wanted = FineTune("train", adversarial=Adversarial(epsilon="0.15", weight=weight), training=training)
        finetune.run(wanted, source, tmp_path / weight / "out", context)
        found = figures["robustness"]
        assert found["rows"] == 24 and found["after"]["accuracy"] > 0.9 > found["before"]["accuracy"]
        assert found["after"]["attacked"] <= found["after"]["accuracy"]
        subject = folders.open_folder(tmp_path / weight / "out", "TextClassification", context)
        numbers = [[["book", "place"].index(row.label)] for row in rows]
        texts = batches.encode(subject.processor, [row.text for row in rows], 64, 0, numbers)
        clean, attacked[weight] = adversarial.accuracy(subject, texts.in_order(50), losses.hard(subject), 0.15)
        assert clean > 0.97
    assert attacked["1"] > attacked["0"] + 0.03


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


def test_what_is_frozen_is_frozen(tmp_path):
    model, _ = load(tiny.save("roberta", tmp_path / "s", ["a", "b"]), "TextClassification")
    freezing.embeddings(model)
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert frozen == {f"roberta.embeddings.{table}_embeddings.weight" for table in ("word", "position", "token_type")}
    freezing.body(model)
    assert all(name.startswith("classifier") for name, value in model.named_parameters() if value.requires_grad)
