"""Every method of Quantize: what it keeps of the answers, what it saves, and what it leaves alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from tests import assets
from tests.worker import tiny

from optimodel.api.spec import Batching
from optimodel.api.steps import Quantize, Step
from optimodel.worker import steps
from optimodel.worker.answers import Answerer, cosines
from optimodel.worker.dataset import Row
from optimodel.worker.errors import Failure
from optimodel.worker.evaluate import INVARIANT, batch_invariance
from optimodel.worker.steps import quantize as quantization
from optimodel.worker.steps.quantize import dynamic, parts

ROWS = {"texts": [Row(f"what is the capital of word{i} word{i + 1}") for i in range(12)]}
METHODS = {
    "dynamic": Quantize(),
    "static": Quantize("Static", data="texts"),
    "weights8": Quantize("WeightOnly"),
    "weights4": Quantize("WeightOnly", bits=4, group_size=16),
    "float16": Quantize("Float16"),
}
PARTS = ("Embeddings", "Attention", "AttentionOutput", "FFNUp", "FFNDown", "Head")


def quantize(settings, graph, out, task="TextClassification", rows=ROWS):
    steps.run(Step("small", "Quantize", quantize=settings), graph, out, tiny.context(task, out.parent, rows))
    return out


def answers(folder, texts):
    answerer = Answerer(folder, 1, Batching())
    return np.stack([answerer.alone(text) for text in texts])


@pytest.fixture
def bert(exported):
    return exported("bert", "TextClassification") / "graph"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_the_answers_and_makes_the_same_bytes_again(bert, method, tmp_path):
    one = quantize(METHODS[method], bert, tmp_path / "one")
    again = quantization.make(METHODS[method], bert, tiny.context("TextClassification", tmp_path, ROWS))
    assert (one / "model.onnx").read_bytes() == again
    assert {p.name for p in one.iterdir()} == {"model.onnx", "model.json", "tokenizer.json"}
    assert (one / "model.onnx").stat().st_size < 0.6 * (bert / "model.onnx").stat().st_size
    texts = ["what is the capital of peru", "yes", "name a fish word1 word2 word3"]
    assert cosines(answers(one, texts), answers(bert, texts)).min() > (0.85 if method == "weights4" else 0.98)
    if method != "dynamic":
        assert batch_invariance(Answerer(one, 1, Batching())) > 0.9999999


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_the_parts_of_every_architecture_are_found(kind, exported):
    graph = exported(kind, "TextClassification") / "graph"
    found = Counter(parts.parts(parts.load(graph / "model.onnx")).values())
    tables = 2 if "distilbert" in str(graph) else 3
    assert found == {"Embeddings": tables, "Attention": 10, "AttentionOutput": 2, "FFNUp": 2, "FFNDown": 2, "Head": 2}


@pytest.mark.parametrize("part", PARTS)
def test_an_excluded_part_keeps_its_precision_and_no_other_does(bert, part):
    model = parts.load(bert / "model.onnx")
    everything, rest = (dynamic.run(model, Quantize(), bert, parts.excluded(model, x), None) for x in ((), (part,)))
    lost = integer_operators(everything) - integer_operators(rest)
    assert lost == Counter({"table": 3} if part == "Embeddings" else {"product": 6 if part == "Attention" else 2})


def integer_operators(model):
    """Products in integers, and look-ups in tables of integers."""
    whole = {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    tables = {value.name for value in model.graph.initializer if value.data_type in whole}
    nodes = model.graph.node
    products = sum(node.op_type == "MatMulInteger" for node in nodes)
    return Counter(product=products, table=sum(n.op_type == "Gather" and n.input[0] in tables for n in nodes))


def test_what_cannot_be_done_is_refused_with_the_way_out(bert, exported, tmp_path):
    source, embedding = (exported("bert", "TextEmbedding") / name for name in ("source", "graph"))
    cases = [
        (Quantize(exclude=("Head",)), embedding, ROWS, "PartNotFound", "FFNDown"),
        (Quantize("Static"), bert, ROWS, "DataMissing", "Name a dataset"),
        (Quantize("Static", data="texts"), bert, {"texts": ROWS["texts"][:7]}, "DataTooSmall", "'texts' has 7"),
        (Quantize(), source, ROWS, "WrongOrder", "Export"),
    ]
    for settings, folder, rows, reason, word in cases:
        with pytest.raises(Failure) as caught:
            quantize(settings, folder, tmp_path / "out", rows=rows)
        assert caught.value.reason == reason
        assert word in caught.value.message
        assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("minilm")
    context = tiny.context("TextEmbedding", folder)
    steps.run(Step("graph", "Export"), assets.minilm(), folder / "graph", context)
    return folder / "graph"


@pytest.mark.timeout(300)
def test_on_the_real_encoder_each_method_is_where_it_should_be(minilm, tmp_path):
    """Bounds lie below (cosine) and above (size) what was measured on a CPU without VNNI: docs/techniques/quantize.md."""
    texts = [text for _, text in assets.trec()]
    rows = {"texts": [Row(text) for text in texts[::80]]}
    expected = {
        "dynamic": (Quantize(), 0.985, 0.26),
        "static": (Quantize("Static", data="texts"), 0.9, 0.26),
        "static-but-ffn-down": (Quantize("Static", data="texts", exclude=("FFNDown",)), 0.98, 0.38),
        "weights8": (Quantize("WeightOnly"), 0.998, 0.28),
        "weights4": (Quantize("WeightOnly", bits=4), 0.95, 0.17),
        "float16": (Quantize("Float16"), 0.9999, 0.51),
    }
    before, size, mean = answers(minilm, texts[7::180]), (minilm / "model.onnx").stat().st_size, {}
    for name, (settings, least, most) in expected.items():
        out = quantize(settings, minilm, tmp_path / name, "TextEmbedding", rows)
        mean[name] = float(cosines(before, answers(out, texts[7::180])).mean())
        share = (out / "model.onnx").stat().st_size / size
        print(f"{name}: cosine {mean[name]:.4f}, {share:.3f} of the size")
        assert mean[name] > least
        assert share < most
        assert (batch_invariance(Answerer(out, 1, Batching())) >= INVARIANT) == (name != "dynamic"), name
    assert mean["static-but-ffn-down"] > mean["static"] + 0.02
    assert mean["weights8"] > mean["dynamic"] + 0.003
