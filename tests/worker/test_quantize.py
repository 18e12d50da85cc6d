"""Every method of Quantize: what it keeps of the answers, what it saves, and what it leaves alone."""

from __future__ import annotations

import shutil
from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from tests import assets
from tests.worker import tiny

from optimodel.api.spec import Batching
from optimodel.api.steps import Quantize, Step
from optimodel.worker import steps
from optimodel.worker.data.dataset import Row
from optimodel.worker.errors import Failure
from optimodel.worker.evidence.evaluate import INVARIANT, batch_invariance
from optimodel.worker.inference.answers import Answerer, cosines
from optimodel.worker.steps import quantize as quantization
from optimodel.worker.steps.quantize import awq, calibrated, calibration, dynamic, gptq, groups, parts, tables

ROWS = {"texts": [Row(f"what is the capital of word{i} word{i + 1}") for i in range(12)]}
METHODS = {
    "dynamic": Quantize(),
    "dynamic, tables 4": Quantize(embedding_bits=4),
    "static": Quantize("Static", data="texts"),
    "static, tables 4": Quantize("Static", data="texts", embedding_bits=4),
    "weights8": Quantize("WeightOnly"),
    "weights4": Quantize("WeightOnly", bits=4, group_size=16),
    "gptq4": Quantize("GPTQ", bits=4, group_size=16, data="texts"),
    "gptq8": Quantize("GPTQ", data="texts"),
    "awq4": Quantize("AWQ", bits=4, group_size=16, data="texts"),
    "awq8": Quantize("AWQ", data="texts"),
    "float16": Quantize("Float16"),
    "bfloat16": Quantize("BFloat16"),
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
    assert cosines(answers(one, texts), answers(bert, texts)).min() > (0.85 if method.endswith("4") else 0.98)
    packed = sum(node.op_type == "BitwiseAnd" for node in onnx.load(one / "model.onnx").graph.node)
    assert packed == (2 if method.endswith("4") else 0), "the two types of a token take no room"
    if not method.startswith("dynamic"):
        assert batch_invariance(Answerer(one, 1, Batching())) > 0.9999999


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("group", [16, 64])
def test_a_table_in_four_bits_is_looked_up_as_it_was_rounded(kind, group, exported, tmp_path):
    """Whatever the width of its rows is to the groups: 32 here. What holds for one table holds for those of places."""
    graph = exported(kind, "TextClassification") / "graph"
    small = quantize(Quantize("WeightOnly", bits=4, embedding_bits=8, group_size=group), graph, tmp_path / "one")
    smaller = quantize(Quantize("WeightOnly", bits=4, group_size=group), graph, tmp_path / "other")
    assert cosines(answers(smaller, ["what is a fish", "yes"]), answers(small, ["what is a fish", "yes"])).min() > 0.9
    model = parts.load(graph / "model.onnx")
    weights = {value.name: onnx.numpy_helper.to_array(value) for value in model.graph.initializer}
    node = next(n for n in model.graph.node if n.op_type == "Gather" and n.input[1] == "input_ids")
    table, output = weights[node.input[0]].T, node.output[0]
    packed = tables.run(model, Quantize("WeightOnly", bits=4, group_size=group), ())
    packed.graph.output.append(onnx.helper.make_empty_tensor_value_info(output))
    ids = np.array([[0, 3, 9], [7, 7, 1]])
    session = ort.InferenceSession(packed.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run([output], {name.name: ids * (name.name == "input_ids") for name in session.get_inputs()})
    scales = groups.grid(table, 4, group)
    expected = groups.nearest(table, scales, 4, group) * groups.spread(scales, group, len(table))
    np.testing.assert_allclose(found, expected.T[ids], rtol=1e-6)


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


@pytest.mark.parametrize(("method", "unpacked"), [("static", 0), ("static, tables 4", 2)])
def test_static_rounds_what_products_read_and_nothing_else(bert, method, unpacked, tmp_path):
    """Not the residual, not the attention's scores: one pair of nodes for each tensor that products with weights read."""
    model = onnx.load(quantize(METHODS[method], bert, tmp_path / "out") / "model.onnx")
    rounded = {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    plain = parts.load(bert / "model.onnx")
    assert rounded == {f"{name}_read" for name in parts.products(plain)}
    back = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    readers = [n for n in model.graph.node if back & set(n.input) and n.op_type != "MatMul"]
    looked_up = [n for n in readers if n.op_type == "Reshape"]
    assert len(looked_up) == unpacked
    rest = [n for n in readers if n not in looked_up]
    assert {n.op_type for n in rest} <= {"Add"} and len(rest) <= 2, "but the sum of the tables' vectors"


def test_bfloat16_is_storage_alone(bert, tmp_path):
    """What is excluded keeps its bits, and the runtime that loads the rest is left with the graph of fp32."""
    folder = quantize(Quantize("BFloat16", exclude=("FFNUp",)), bert, tmp_path / "out")
    kinds = Counter(
        value.data_type for value in onnx.load(folder / "model.onnx").graph.initializer if len(value.dims) > 1
    )
    assert kinds[onnx.TensorProto.BFLOAT16] == 3 + 8 + 2 + 2 and kinds[onnx.TensorProto.FLOAT] == 2
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    loaded = onnx.load(tmp_path / "loaded.onnx").graph.initializer
    assert onnx.TensorProto.BFLOAT16 not in {value.data_type for value in loaded}


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
        (Quantize("GPTQ"), bert, ROWS, "DataMissing", "Name a dataset"),
        (Quantize("Static", data="texts"), bert, {"texts": ROWS["texts"][:7]}, "DataTooSmall", "'texts' has 7"),
        (Quantize(), source, ROWS, "WrongOrder", "Export"),
    ]
    for settings, folder, rows, reason, word in cases:
        with pytest.raises(Failure) as caught:
            quantize(settings, folder, tmp_path / "out", rows=rows)
        assert caught.value.reason == reason
        assert word in caught.value.message
        assert not (tmp_path / "out").exists()


def test_hessians_that_have_no_room_together_are_gathered_in_turn(bert, tmp_path, monkeypatch):
    """The later products are then rounded on what rounded ones before them make."""
    model = parts.load(bert / "model.onnx")
    weights = {value.name: value for value in model.graph.initializer}
    widths = {name: weights[nodes[0].input[1]].dims[0] for name, nodes in parts.products(model).items()}
    assert [len(portion) for portion in calibrated.portions(widths)] == [10]
    monkeypatch.setattr(calibrated, "ROOM", 4 * 2 * 32**2)
    assert [len(portion) for portion in calibrated.portions(widths)] == [2, 1, 1, 2, 1, 1, 2]
    out = quantize(METHODS["gptq4"], bert, tmp_path / "out")
    texts = [row.text for row in ROWS["texts"]]
    assert cosines(answers(out, texts), answers(bert, texts)).min() > 0.85


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
        "dynamic, tables 4": (Quantize(embedding_bits=4), 0.98, 0.21),
        "static": (Quantize("Static", data="texts"), 0.985, 0.26),
        "static-but-ffn-down": (Quantize("Static", data="texts", exclude=("FFNDown",)), 0.99, 0.38),
        "weights8": (Quantize("WeightOnly"), 0.998, 0.28),
        "weights4": (Quantize("WeightOnly", bits=4), 0.95, 0.17),
        "weights4, tables 8": (Quantize("WeightOnly", bits=4, embedding_bits=8), 0.955, 0.22),
        "gptq4": (Quantize("GPTQ", bits=4, data="texts"), 0.975, 0.17),
        "awq4": (Quantize("AWQ", bits=4, data="texts"), 0.975, 0.17),
        "float16": (Quantize("Float16"), 0.9999, 0.51),
        "bfloat16": (Quantize("BFloat16"), 0.9999, 0.51),
    }
    before, size, mean = answers(minilm, texts[7::180]), (minilm / "model.onnx").stat().st_size, {}
    for name, (settings, least, most) in expected.items():
        out = quantize(settings, minilm, tmp_path / name, "TextEmbedding", rows)
        mean[name] = float(cosines(before, answers(out, texts[7::180])).mean())
        share = (out / "model.onnx").stat().st_size / size
        print(f"{name}: cosine {mean[name]:.4f}, {share:.3f} of the size")
        assert mean[name] > least
        assert share < most
        assert (batch_invariance(Answerer(out, 1, Batching())) >= INVARIANT) == (not name.startswith("dynamic")), name
    assert mean["static-but-ffn-down"] > mean["static"] + 0.001
    assert mean["weights8"] > mean["dynamic"] + 0.003
    assert min(mean["gptq4"], mean["awq4"]) > mean["weights4"] + 0.008
    assert mean["weights4, tables 8"] > mean["weights4"] + 0.0005


@pytest.mark.timeout(300)
def test_at_three_bits_gptq_and_awq_beat_rounding_to_nearest(minilm, tmp_path):
    """No runtime stores three bits, so the weights stand on the grid in fp32. On 30 questions that the calibration did not see."""
    texts = [text for _, text in assets.trec()]
    context = tiny.context("TextEmbedding", tmp_path, {"texts": [Row(text) for text in texts[::80]]})
    model = parts.load(minilm / "model.onnx")
    batches = calibration.batches(model, minilm, Quantize("GPTQ", data="texts"), context)
    readers = parts.products(model)
    found = calibrated.hessians(model, list(readers), batches, context)
    before = answers(minilm, texts[7::180])
    mean = {}
    for method in ("nearest", "gptq", "awq"):
        out = on_the_grid(method, minilm, tmp_path / method, found)
        mean[method] = float(cosines(before, answers(out, texts[7::180])).mean())
        print(f"{method}: cosine {mean[method]:.4f}")
    assert 1 - mean["gptq"] < 0.6 * (1 - mean["nearest"])
    assert 1 - mean["awq"] < 0.7 * (1 - mean["nearest"])


def on_the_grid(method, graph, out, hessians):
    """The graph with every matrix rounded to three bits by a method."""
    shutil.copytree(graph, out)
    model = parts.load(out / "model.onnx")
    values = {value.name: value for value in model.graph.initializer}
    for name, nodes in parts.products(model).items():
        read = [values[node.input[1]] for node in nodes]
        weights = [onnx.numpy_helper.to_array(value) for value in read]
        for value, rounded in zip(read, rounded_by(method, weights, hessians[name]), strict=True):
            value.CopyFrom(onnx.numpy_helper.from_array(rounded.astype(np.float32), value.name))
    onnx.save(model, out / "model.onnx")
    return out


def rounded_by(method, weights, hessian, bits=3, group=32):
    """What the weights that read one tensor amount to."""
    if method == "awq":
        factors = awq.balance(weights, hessian, bits, group)
        inner = hessian / np.outer(factors, factors)
        pairs = [awq.clipped(weight * factors[:, None], inner, bits, group) for weight in weights]
        return [q * groups.spread(scales, group, len(q)) / factors[:, None] for q, scales in pairs]
    scales = [groups.grid(weight, bits, group) for weight in weights]
    choose = {
        "nearest": lambda w, s: groups.nearest(w, s, bits, group),
        "gptq": lambda w, s: gptq.rounded(w, hessian, s, bits, group),
    }
    return [choose[method](w, s) * groups.spread(s, group, len(w)) for w, s in zip(weights, scales, strict=True)]
