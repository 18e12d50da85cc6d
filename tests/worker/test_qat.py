"""Quantisation-aware training: it rounds as the quantised graph does, and what it trains loses less by the rounding."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests import assets
from tests.worker import tiny

from optimodel.api.spec import Batching
from optimodel.api.steps import QAT, Quantize, Step, Training
from optimodel.worker import steps
from optimodel.worker.data.dataset import Row
from optimodel.worker.errors import Failure
from optimodel.worker.inference.answers import Answerer, cosines
from optimodel.worker.steps.prune import masks
from optimodel.worker.steps.prune.recover import encoded
from optimodel.worker.training import folders
from optimodel.worker.training.rounding import rounding

TEXTS = [f"what is the capital of word{i} word{3 * i % 200} and word{7 * i % 200}" for i in range(200)]
TRAIN, TEST = TEXTS[:160], TEXTS[160:]
ROWS = {"train": [Row(text) for text in TRAIN], "one": [Row(TEST[0])] * 8}
QUICK = Training(epochs=10, batch_size=16, learning_rate="0.002")
METHODS = {
    "dynamic": QAT("train"),
    "dynamic-tables4": QAT("train", embedding_bits=4),
    "static": QAT("train", "Static"),
    "weights8": QAT("train", "WeightOnly", group_size=16),
    "weights4": QAT("train", "WeightOnly", bits=4, group_size=16),
    "but-some": QAT("train", "WeightOnly", bits=4, group_size=16, exclude=("Embeddings", "FFNUp")),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return tiny.save("bert", tmp_path_factory.mktemp("bert") / "source")


@pytest.fixture(scope="module")
def graph(source, tmp_path_factory):
    return export(source, tmp_path_factory.mktemp("graph"))


def context(folder):
    return tiny.context("TextEmbedding", folder, ROWS)


def export(source, folder):
    steps.run(Step("graph", "Export"), source, folder / "graph", context(folder))
    return folder / "graph"


def quantized(graph, wanted, out, data):
    bits = wanted.embedding_bits
    found = Quantize(
        wanted.method, wanted.bits, group_size=wanted.group_size, exclude=wanted.exclude, embedding_bits=bits
    )
    if wanted.method == "Static":
        found = Quantize("Static", exclude=wanted.exclude, data=data, embedding_bits=bits)
    steps.run(Step("small", "Quantize", quantize=found), graph, out, context(out.parent))
    return out


def answers(folder, texts=TEST):
    answerer = Answerer(folder, 1, Batching(length_buckets=(16,)))
    return np.stack([answerer.alone(text) for text in texts])


@pytest.mark.parametrize("method", METHODS)
def test_it_rounds_as_the_quantised_graph_does(source, graph, method, tmp_path):
    """On one text, which is all that Static was calibrated on. What is left is the rounding of activations in WeightOnly."""
    wanted, text = METHODS[method], ROWS["one"]
    folder = quantized(graph, wanted, tmp_path / "small", "one")
    answerer = Answerer(folder, 1, Batching(length_buckets=(16,)))
    exact = answers(graph, [text[0].text])[0]
    subject = folders.open_folder(source, "TextEmbedding", context(tmp_path))
    inputs = {name: torch.tensor(value) for name, value in answerer.front.encode([text[0].text]).items()}
    with torch.no_grad(), rounding(subject.model, wanted):
        hidden = subject.model(**inputs).last_hidden_state
        found = folders.pooled(hidden, inputs["attention_mask"], subject.description)[0].numpy()
    served = answerer.alone(text[0].text)
    assert np.linalg.norm(found - served) < 0.2 * np.linalg.norm(exact - served)
    (after,) = subject.answer(encoded(subject, text, "one").in_order(1)[0])[0].detach().numpy()
    assert np.abs(after - exact).max() < 1e-5, "nothing is left of it behind the block"


def test_a_model_trained_for_the_rounding_loses_less_by_it(source, graph, tmp_path, unproven):
    wanted = METHODS["weights4"]
    notes = {}
    given = steps.Context(
        "TextEmbedding", 1, tmp_path, lambda *_: None, ROWS.__getitem__, tmp_path / "checkpoint", notes.__setitem__
    )
    trained = Step("aware", "QAT", qat=QAT("train", wanted.method, wanted.bits, wanted.group_size, training=QUICK))
    steps.run(trained, source, tmp_path / "aware", given)
    assert notes["loss"]["last"] < 0.5 * notes["loss"]["first"]
    after = export(tmp_path / "aware", tmp_path)
    exact = answers(graph)
    lost = [
        1 - float(cosines(exact, answers(quantized(start, wanted, tmp_path / name, "train"))).mean())
        for name, start in (("ptq", graph), ("qat", after))
    ]
    print(f"{lost[0]:.5f} lost by PTQ, {lost[1]:.5f} by QAT")
    assert lost[1] < 0.3 * lost[0]


@pytest.mark.timeout(300)
def test_on_the_real_encoder_four_bits_lose_less_after_training_for_them(tmp_path, unproven):
    """16 steps on 256 questions, without labels; judged on 30 others, in torch: above it is shown to round as the graph does."""
    questions = [text for _, text in assets.trec()]
    held_out = questions[7::180]
    rows = {"train": [Row(text) for text in questions if text not in held_out][:5120:20]}
    given = tiny.context("TextEmbedding", tmp_path, rows)
    wanted = QAT("train", "WeightOnly", 4, training=Training(epochs=2, learning_rate="0.00002"))
    steps.run(Step("aware", "QAT", qat=wanted), assets.minilm(), tmp_path / "aware", given)
    exact = vectors(assets.minilm(), None, held_out, given)
    lost = [
        1 - float(cosines(exact, vectors(folder, wanted, held_out, given)).mean())
        for folder in (assets.minilm(), tmp_path / "aware")
    ]
    print(f"{lost[0]:.4f} lost by PTQ, {lost[1]:.4f} by QAT")
    assert lost[1] < 0.8 * lost[0]


def vectors(folder, wanted, texts, given):
    """The answers of a folder as it is, or rounded."""
    subject = folders.open_folder(folder, "TextEmbedding", given)
    batch = encoded(subject, [Row(text) for text in texts], "texts").batch(range(len(texts)))
    with torch.no_grad(), rounding(subject.model, wanted) if wanted else nullcontext():
        return subject.answer(batch)[0].numpy()


def test_pruned_weights_stay_zero(source, tmp_path, unproven):
    subject = folders.open_folder(source, "TextEmbedding", context(tmp_path))
    masks.magnitude(subject.model, 0.4)
    (tmp_path / "thin").mkdir()
    folders.save(subject, tmp_path / "thin", context(tmp_path))
    once = Training(epochs=1, learning_rate="0.002")
    aware = Step("aware", "QAT", qat=QAT("train", "WeightOnly", 4, 16, training=once))
    steps.run(aware, tmp_path / "thin", tmp_path / "aware", context(tmp_path))
    thin, after = (load_file(tmp_path / name / "model.safetensors") for name in ("thin", "aware"))
    name = "encoder.layer.0.output.dense.weight"
    assert not thin[name].equal(after[name])
    assert (thin[name] == 0).equal(after[name] == 0) and (thin[name] == 0).float().mean() > 0.3


def test_a_part_that_the_model_does_not_have_is_refused_before_the_training(source, tmp_path):
    aware = Step("aware", "QAT", qat=QAT("train", exclude=("Head",)))
    with pytest.raises(Failure) as caught:
        steps.run(aware, source, tmp_path / "aware", context(tmp_path))
    assert caught.value.reason == "PartNotFound"
    assert "FFNDown" in caught.value.message
