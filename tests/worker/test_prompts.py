"""Virtual tokens: learnt ahead of the text, baked into the graph, left behind by a student, refused where they do not fit."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from tests import assets
from tests.worker import tiny

from optimodel.api.spec import Batching
from optimodel.api.steps import Distill, FineTune, Step, Training
from optimodel.worker import steps
from optimodel.worker.data.dataset import Row
from optimodel.worker.errors import Failure
from optimodel.worker.inference.answers import Answerer, cosines
from optimodel.worker.steps import distill, finetune
from optimodel.worker.training import adversarial, batches, folders, losses, prompts

TEXTS = ["what is the capital of peru", "yes", "name a fish word1 word2 word3 word4 word5 word6 word7 word8 word9"]
ROWS = [Row(f"{TEXTS[n % 3]} word{n}", ("a", "b")[n % 2]) for n in range(24)]
QUICK = Training(epochs=1, batch_size=8, learning_rate="0.05")


def tuned(kind, method, folder, tokens=6):
    """A folder whose virtual tokens change its answers, and the classifier in memory."""
    context = tiny.context("TextClassification", folder)
    subject = folders.open_folder(tiny.save(kind, folder / "source", ["a", "b"]), "TextClassification", context)
    subject = folders.with_virtual_tokens(subject, method, tokens)
    (folder / "out").mkdir()
    folders.save(subject, folder / "out", context)
    return folder / "out", subject


@pytest.mark.parametrize(("kind", "method"), [("roberta", "PrefixTuning"), ("distilbert", "PromptTuning")])
def test_the_graph_reads_the_virtual_tokens_by_itself(kind, method, tmp_path, unproven):
    """Padded to the served lengths, none of which was traced, it answers as the model in memory does to each text alone."""
    folder, subject = tuned(kind, method, tmp_path)
    context = tiny.context("TextClassification", tmp_path)
    steps.run(Step("graph", "Export"), folder, tmp_path / "graph", context)
    answerer = Answerer(tmp_path / "graph", 1, Batching(length_buckets=(16, 32)))
    assert set(answerer.description.inputs) >= {"input_ids", "attention_mask"}
    room = {"roberta": 62, "distilbert": 64}[kind]
    assert answerer.description.max_length == subject.description["maxLength"] == room, "70 positions, 6 taken"
    longest = " ".join(f"word{n}" for n in range(100))
    texts = batches.encode(subject.processor, [*TEXTS, longest], room, 0)
    plain = prompts.without(subject.model)
    for place, text in enumerate([*TEXTS, longest]):
        batch = texts.batch([place])
        with torch.no_grad():
            expected = subject.answer(batch)[0].softmax(-1)[0].numpy()
            alone = plain(**batch.inputs).logits.softmax(-1)[0].numpy()
        np.testing.assert_allclose(answerer.alone(text), expected, atol=2e-5)
        assert abs(expected - alone).max() > 1e-4, "the virtual tokens count"


def test_a_tuned_graph_is_quantised_like_any_other(tmp_path):
    """Through whole steps, their fresh processes included."""
    source = tiny.save("bert", tmp_path / "source")
    context = tiny.context("TextClassification", tmp_path, {"train": ROWS})
    settings = FineTune("train", method="PromptTuning", virtual_tokens=4, training=QUICK)
    steps.run(Step("adapt", "FineTune", fine_tune=settings), source, tmp_path / "tuned", context)
    assert prompts.count(tmp_path / "tuned") == 4
    steps.run(Step("graph", "Export"), tmp_path / "tuned", tmp_path / "graph", context)
    steps.run(Step("int8", "Quantize"), tmp_path / "graph", tmp_path / "int8", context)
    before, after = (Answerer(tmp_path / name, 1, Batching()) for name in ("graph", "int8"))
    assert cosines(*(np.stack([x.alone(text) for text in TEXTS]) for x in (before, after))).min() > 0.99


def test_hidden_states_and_perturbations_are_those_of_the_text(tmp_path, unproven):
    for method, name in (("PromptTuning", "one"), ("PrefixTuning", "two")):
        (tmp_path / name).mkdir()
        _, subject = tuned("bert", method, tmp_path / name)
        batch = batches.encode(subject.processor, TEXTS, 64, 0, [[0], [1], [0]]).batch(range(3))
        with torch.no_grad():
            answers, states = subject.answer(batch, hidden=True)
        assert answers.shape == (3, 2) and {state.shape for state in states} == {(*batch.inputs["input_ids"].shape, 32)}
        adversarial.hardened(subject, losses.hard(subject), 0.1, 1.0)(batch).backward()
        assert bool(subject.model.tokens.grad.any())


def test_a_student_reads_no_virtual_tokens(tmp_path, unproven):
    """Its teacher does, so the student learns other answers than from the same body without them."""
    folder, subject = tuned("bert", "PromptTuning", tmp_path)
    context = tiny.context("TextClassification", tmp_path, {"texts": [Row(row.text) for row in ROWS]})
    wanted = Distill("texts", training=Training(epochs=15, batch_size=8, learning_rate="0.005"))
    distill.run(wanted, folder, tmp_path / "student", context)
    assert prompts.count(tmp_path / "student") == 0
    student = folders.open_folder(tmp_path / "student", "TextClassification", context)
    assert student.description["maxLength"] == 70
    batch = batches.encode(subject.processor, [row.text for row in ROWS], 64, 0).batch(range(24))
    with torch.no_grad():
        taught, teacher = (s.answer(batch)[0].softmax(-1) for s in (student, subject))
        body = prompts.without(subject.model)(**batch.inputs).logits.softmax(-1)
    assert abs(taught - teacher).mean() < 0.5 * abs(body - teacher).mean()


def test_questions_are_told_apart_by_what_the_tokens_learnt(tmp_path, unproven):
    """TREC-6 on the real encoder: tokens and head as they were drawn, and trained; the body did not move."""
    pairs = assets.trec()
    random.Random(0).shuffle(pairs)
    rows = [Row(text, label) for label, text in pairs[:720]]
    context = tiny.context("TextClassification", tmp_path, {"train": rows[:320]})
    names = sorted({row.label for row in rows})

    def share(subject):
        labels = [[names.index(row.label)] for row in rows[320:]]
        texts = batches.encode(subject.processor, [row.text for row in rows[320:]], 32, 0, labels)
        subject.model.eval()
        with torch.no_grad():
            return sum(int((subject.answer(b)[0].argmax(-1) == b.labels).sum()) for b in texts.in_order(50)) / 400

    torch.manual_seed(0)
    drawn = folders.open_folder(assets.minilm(), "TextClassification", context, labels=names)
    before = share(folders.with_virtual_tokens(drawn, "PromptTuning", 8))
    training = Training(epochs=3, batch_size=16, learning_rate="0.02", max_length=32)
    settings = FineTune("train", method="PromptTuning", virtual_tokens=8, training=training)
    finetune.run(settings, assets.minilm(), tmp_path / "out", context)
    tuned = folders.open_folder(tmp_path / "out", "TextClassification", context, virtual=True)
    after = share(tuned)
    print(before, after)
    assert after > before + 0.12, "four standard errors of such a difference on 400 rows"
    body = dict(prompts.without(tuned.model).base_model.named_parameters())
    for name, value in drawn.model.base_model.named_parameters():
        assert torch.equal(value, body[name]) or name.startswith("pooler")


def test_what_virtual_tokens_do_not_fit_is_refused(tmp_path, unproven):
    folder, _ = tuned("bert", "PromptTuning", tmp_path)
    context = tiny.context("TextClassification", tmp_path, {"train": ROWS})
    (tmp_path / "other").mkdir()
    distilbert = tiny.save("distilbert", tmp_path / "other")
    for source, settings, reason in (
        (folder, FineTune("train", training=QUICK), "VirtualTokensNotSupported"),
        (distilbert, FineTune("train", method="PrefixTuning", training=QUICK), "UnsupportedArchitecture"),
        (
            distilbert,
            FineTune("train", method="PromptTuning", virtual_tokens=63, training=QUICK),
            "VirtualTokensTooMany",
        ),
    ):
        with pytest.raises(Failure) as caught:
            finetune.run(settings, source, tmp_path / "refused", context)
        assert caught.value.reason == reason and caught.value.message.endswith(".")
