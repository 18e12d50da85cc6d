"""Fine-tuning, and the loop of every training, on tiny models: what is learnt, what is frozen, what is refused, and what a kill costs."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil

import pytest
import torch
from safetensors.torch import load_file
from tests.worker import tiny
from tests.worker.lessons import QUICK, accuracy, digest, noted, questions

from optimodel.api.steps import Adversarial, FineTune, Step, Training
from optimodel.worker import steps
from optimodel.worker.data.dataset import Row
from optimodel.worker.errors import Failure
from optimodel.worker.steps import finetune
from optimodel.worker.training import (
    adapters,
    adversarial,
    batches,
    families,
    folders,
    freezing,
    loop,
    losses,
)
from optimodel.worker.training.loading import load


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


def test_what_is_frozen_is_frozen(tmp_path):
    model, _ = load(tiny.save("roberta", tmp_path / "s", ["a", "b"]), "TextClassification")
    freezing.embeddings(model)
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert frozen == {f"roberta.embeddings.{table}_embeddings.weight" for table in ("word", "position", "token_type")}
    freezing.body(model)
    assert all(name.startswith("classifier") for name, value in model.named_parameters() if value.requires_grad)
