"""FP8 pairs: what they keep of the answers, where they lie, and that two implementations of ONNX read them alike.

No GPU is needed for the numbers: whoever has no product in FP8 computes the pairs as they are written.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator
from tests.worker import tiny

from optimodel.api.spec import Batching
from optimodel.api.steps import Quantize, Step
from optimodel.worker import steps
from optimodel.worker.data.dataset import Row
from optimodel.worker.evidence.evaluate import batch_invariance
from optimodel.worker.inference.answers import Answerer, cosines
from optimodel.worker.steps.quantize import fp8, parts

ROWS = {"texts": [Row(f"what is the capital of word{i} word{i + 1}") for i in range(12)]}
FP8 = Quantize("FP8", data="texts")


@pytest.fixture
def bert(exported):
    return exported("bert", "TextClassification") / "graph"


def quantize(graph, out, settings=FP8):
    context = tiny.context("TextClassification", out.parent, ROWS, "TensorRT")
    steps.run(Step("small", "Quantize", quantize=settings), graph, out, context)
    return out


def test_the_answers_stay_and_the_weights_are_a_quarter(bert, tmp_path):
    out = quantize(bert, tmp_path / "out")
    texts = ["what is the capital of peru", "yes", "name a fish word1 word2 word3"]
    found, plain = Answerer(out, 1, Batching(), "TensorRT"), Answerer(bert, 1, Batching())
    assert cosines([found.alone(t) for t in texts], [plain.alone(t) for t in texts]).min() > 0.99
    assert batch_invariance(found) > 0.9999999
    model = onnx.load(out / "model.onnx")
    kinds = matrices(model)
    readers = parts.products(parts.load(bert / "model.onnx"))
    assert kinds == {
        onnx.TensorProto.FLOAT8E4M3FN: sum(map(len, readers.values())),
        onnx.TensorProto.FLOAT16: 3,
    }
    rounded = {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    assert rounded == set(readers), "not the scores of attention, and no tensor twice"
    read_back = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    assert all(set(node.input) <= read_back for node in model.graph.node if read_back & set(node.input))


def matrices(model):
    """Matrices and tables by the type of their numbers, which are no integers."""
    found = Counter(value.data_type for value in model.graph.initializer if len(value.dims) > 1)
    del found[onnx.TensorProto.INT64]
    return found


def test_an_excluded_part_keeps_its_precision(bert, tmp_path):
    out = quantize(bert, tmp_path / "out", Quantize("FP8", data="texts", exclude=("FFNUp", "Embeddings")))
    kinds = matrices(onnx.load(out / "model.onnx"))
    assert kinds[onnx.TensorProto.FLOAT] == 2 + 3 and onnx.TensorProto.FLOAT16 not in kinds


def test_the_reference_and_the_runtime_compute_the_same(tmp_path):
    """One product with an outlier: its largest values are exact in FP8, and what calibration never saw is cut off."""
    chance = np.random.default_rng(1)
    weight, x = chance.normal(size=(32, 8)).astype(np.float32), chance.normal(size=(20, 32)).astype(np.float32)
    peak = float(np.abs(x).max())
    x[0, 0] = 10 * peak
    model = product(weight)
    (node,) = [n for n in model.graph.node if n.op_type == "MatMul"]
    node.input[0] = fp8._activation(model, node, "x", peak)
    fp8._weight(model, node)
    onnx.checker.check_model(model, full_check=True)
    (reference,) = ReferenceEvaluator(model).run(None, {"x": x})
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    running = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (found,) = running.run(None, {"x": x})
    assert np.abs(found - reference).max() < 1e-4
    exact = np.clip(x, -peak, peak) @ weight
    assert 0.001 < np.linalg.norm(found - exact) / np.linalg.norm(exact) < 0.06, (
        "rounded to four bits, no more and no less"
    )


def product(weight):
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", None]) for n in "xy")
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    graph = onnx.helper.make_graph([node], "g", [x], [y], [onnx.numpy_helper.from_array(weight, "w")])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
