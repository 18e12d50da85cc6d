"""Decoders learn how texts go on: what moves, what a student takes over, and that the result goes the way of any other."""

from __future__ import annotations

import json
import math
import random

import pytest
import torch
from safetensors.torch import load_file
from tests import inputs
from tests.worker import tiny
from tests.worker.lessons import noted
from transformers import AutoModelForCausalLM, AutoTokenizer

from optimodel.api.spec import Gate
from optimodel.api.steps import Distill, FineTune, Quantize, Step, Training
from optimodel.worker.data import dataset
from optimodel.worker.data.rows import Row
from optimodel.worker.errors import Failure
from optimodel.worker.source import check_folder
from optimodel.worker.steps import distill, finetune
from optimodel.worker.training import encoding, families, folders, losses
from optimodel.worker.training.teacher import Teacher

TASK = "TextGeneration"
COLOURS = {"sky": "blue", "grass": "green", "snow": "white", "coal": "black", "blood": "red", "gold": "yellow"}
QUICK = Training(epochs=6, batch_size=8, learning_rate="0.01")


def colours(count, seed=0, *, right=True, things=2):
    """Texts in which a thing is chance and its colour is not, unless `right` is off."""
    chance = random.Random(seed)

    def said(thing):
        return f"the {thing} {COLOURS[thing] if right else chance.choice(sorted(COLOURS.values()))}"

    return [f"Paint {' and '.join(map(said, chance.sample(sorted(COLOURS), things)))}." for _ in range(count)]


HELD_OUT = colours(30, seed=9)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A decoder that knows the words, and no colour."""
    return tiny.save_decoder(tmp_path_factory.mktemp("source") / "tiny", colours(120, 1, right=False), steps=120)


def theirs(folder):
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def perplexity(folder, texts=HELD_OUT):
    """By transformers alone."""
    model, tokenizer = theirs(folder)
    total = tokens = 0
    with torch.no_grad():
        for text in texts:
            ids = tokenizer(text, return_tensors="pt").input_ids
            total += float(model(ids, labels=ids).loss) * (ids.shape[1] - 1)
            tokens += ids.shape[1] - 1
    return math.exp(total / tokens)


def right(folder):
    """The share of texts whose last colour is written rightly."""
    model, tokenizer = theirs(folder)
    asked = [text[:-1].rpartition(" ")[::2] for text in HELD_OUT]
    with torch.no_grad():
        found = [model(**tokenizer(text, return_tensors="pt")).logits[0, -1].argmax() for text, _ in asked]
    return sum(tokenizer.decode(n).strip() == colour for n, (_, colour) in zip(found, asked, strict=True)) / len(asked)


def context(scratch, texts):
    scratch.mkdir(exist_ok=True)
    return tiny.context(TASK, scratch, {"texts": [Row(text) for text in texts]})


def test_each_token_is_expected_from_those_before_it(source, tmp_path):
    """The loss is transformers' own, over texts of unlike lengths; what leaves nothing to expect is left out."""
    subject = folders.open_folder(source, TASK, context(tmp_path, ()))
    rows = [Row(text) for text in (*colours(3), "Paint the", "x", "Paint the sky")]
    examples = encoding.encoded(subject, rows, "texts")
    assert len(subject.processor("x").input_ids) == 1 and len(examples) == 5
    batch = examples.batch(range(5))
    labels = batch.inputs["input_ids"].masked_fill(batch.mask == 0, -100)
    with torch.no_grad():
        found, wanted = losses.hard(subject)(batch), subject.model(**batch.inputs, labels=labels).loss
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)
    with pytest.raises(Failure, match="No text of 'texts' has two tokens"):
        encoding.encoded(subject, [Row("x")], "texts")


@pytest.mark.parametrize(("method", "epochs"), [("Full", 6), ("LoRA", 20)])
def test_a_decoder_learns_how_texts_go_on(method, epochs, source, tmp_path, unproven):
    """Held-out texts become far likelier. The table of tokens, which is the head too, stays as it was, and one with it."""
    lessons, figures = noted(context(tmp_path, colours(96)))
    training = Training(epochs=epochs, batch_size=8, learning_rate="0.01")
    finetune.run(FineTune("texts", method=method, training=training), source, tmp_path / "out", lessons)
    before, after = perplexity(source), perplexity(tmp_path / "out")
    print(f"{method}: {before:.2f} to {after:.2f}")
    assert after < 0.8 * before
    old, new = (load_file(folder / "model.safetensors") for folder in (source, tmp_path / "out"))
    assert set(old) == set(new) and "lm_head.weight" not in new
    moved = {name for name in old if bool((old[name] != new[name]).any())}
    assert moved == {name for name in old if "_proj" in name or (method == "Full" and "norm" in name)}
    assert figures["rows"] == 96 and figures["loss"]["steps"] == 12 * epochs
    assert (tmp_path / "out" / "chat_template.jinja").exists(), "what surrounds the weights comes along"


@pytest.mark.parametrize("kept", [(0,), (1,), (0, 1)])
def test_a_student_begins_with_its_teachers_hidden_states(kept, source, tmp_path):
    """Its layers see what they saw in the teacher as far as none below them is gone, and its last is normalised whichever it is."""
    teacher = folders.open_folder(source, TASK, context(tmp_path, ()))
    student = folders.copy(teacher)
    families.keep_layers(student.model, kept)
    batch = encoding.encoded(teacher, [Row(text) for text in colours(4)], "texts").batch(range(4))
    with torch.no_grad():
        _, states = student.answer(batch, hidden=True)
        _, wanted = Teacher(teacher, kept)(batch)
        apart = float(losses.hidden(states, wanted, batch.mask))
    assert len(states) == len(wanted) == len(kept)
    assert (apart < 1e-8) == (kept != (1,))


def test_a_student_believes_its_teacher_rather_than_wrong_texts(source, tmp_path, unproven):
    """Every colour of its texts is chance; the same student without a teacher is left with that."""
    finetune.run(FineTune("texts", training=QUICK), source, tmp_path / "teacher", context(tmp_path, colours(240)))
    found, wrong = {}, colours(96, 5, right=False)
    for name, soft, hidden in (("taught", "0.9", "1"), ("alone", "0", "0")):
        lessons, training = context(tmp_path / name, wrong), Training(epochs=30, batch_size=8, learning_rate="0.003")
        settings = Distill("texts", temperature="1", soft=soft, hidden=hidden, training=training)
        distill.run(settings, tmp_path / "teacher", tmp_path / name / "out", lessons)
        assert check_folder(tmp_path / name / "out", TASK)["num_hidden_layers"] == 1
        found[name] = right(tmp_path / name / "out")
    print(f"teacher {right(tmp_path / 'teacher'):.2f}", found)
    assert found["taught"] > 0.8 and found["alone"] < 0.4


def test_a_job_trains_a_decoder_and_quantizes_it_as_any_other(source, tmp_path):
    """Fine-tuned, distilled, exported, quantised and judged. What the graphs expect is what transformers makes of the folders."""
    (tmp_path / "tiny").symlink_to(source)
    lines = [json.dumps({"text": text}) for text in dict.fromkeys(colours(400, things=3))]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    data = inputs.dataset(tmp_path, split=inputs.PARTS)
    judged = [row.text for row in dataset.part(dataset.load(data, {}), inputs.PARTS, "test", "d")]
    steps = (
        Step("adapt", "FineTune", fine_tune=FineTune("d/train", method="LoRA", training=QUICK)),
        Step("small", "Distill", distill=Distill("d/train", training=QUICK)),
        Step("graph", "Export"),
        Step("int8", "Quantize", quantize=Quantize("WeightOnly")),
    )
    gates = (
        Gate("loss", "PerplexityRatio", data="d/test", max="1.3"),
        Gate("learnt", "Perplexity", data="d/test", max=f"{0.8 * perplexity(source, judged):.3f}"),
    )
    result, _ = inputs.run(inputs.job(tmp_path, *steps, task=TASK, gates=gates, data=(data,)), tmp_path / "work")
    print(result.gates, result.figures)
    assert (result.outcome, [gate.verdict for gate in result.gates]) == ("Succeeded", ["Pass", "Pass"])
    folders = [path.parent for path in (tmp_path / "work" / "steps").glob("*/config.json")]
    small, adapted = sorted(folders, key=lambda path: check_folder(path, TASK)["num_hidden_layers"])
    assert float(result.figures.baseline_perplexity) == pytest.approx(perplexity(adapted, judged), rel=1e-3)
    assert float(result.figures.perplexity) == pytest.approx(perplexity(small, judged), rel=0.03)
