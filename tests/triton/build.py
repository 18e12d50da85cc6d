"""Makes the artifacts that the tests serve; runs with the worker's requirements: `build.py KIND SOURCE OUT`.

`embedding`: the published ONNX graph of paraphrase-MiniLM-L3, with its token vectors as the only output.
`classification`: a sum of one row per token: small, but every answer depends on every token.
`generation`: a tiny decoder that learnt two sentences, exported as the worker exports it.
`words`: the running sum of such rows: every token's answer depends on all before it.
`images`: one matrix product over all pixel values of a crop of 8 x 8. `classes`: the same with a thousand labels.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LABELS = ["number", "place", "person"]
SENTENCES = [
    "The capital of Peru is Lima, and the capital of France is Paris.<|im_end|>",
    "Who wrote the first novel? Nobody knows who wrote the first novel.<|im_end|>",
]


def embedding(graph: Path, tokenizer: Path, out: Path) -> None:
    model = onnx.load(graph)
    (hidden,) = [o.name for o in model.graph.output if o.type.tensor_type.shape.dim[-1].dim_value == 384][:1]
    model.graph.node.append(helper.make_node("Identity", [hidden], ["last_hidden_state"]))
    del model.graph.output[:]
    model.graph.output.append(
        helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", 384])
    )
    settings = {"task": "TextEmbedding", "output": "last_hidden_state", "pooling": "mean", "normalize": True}
    _save(model, tokenizer, {**settings, "hiddenSize": 384, "labels": []}, out)


def classification(tokenizer: Path, out: Path) -> None:
    rng = np.random.default_rng(7)
    table = rng.normal(scale=0.2, size=(30522, len(LABELS))).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"], axis=0),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["weights"]),
        helper.make_node("Mul", ["rows", "weights"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["logits"], keepdims=0),
    ]
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask")
    ]
    answer = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(LABELS)])]
    constants = [("table", table), ("last", np.array([2])), ("one", np.array([1]))]
    values = [numpy_helper.from_array(value, name) for name, value in constants]
    graph = helper.make_graph(nodes, "classifier", ids, answer, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    _save(model, tokenizer, {"task": "TextClassification", "output": "logits", "labels": LABELS}, out)


def words(tokenizer: Path, out: Path) -> None:
    rng = np.random.default_rng(8)
    table = rng.normal(size=(30522, len(LABELS))).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"], axis=0),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["weights"]),
        helper.make_node("Mul", ["rows", "weights"], ["kept"]),
        helper.make_node("CumSum", ["kept", "one"], ["logits"]),
    ]
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask")
    ]
    answer = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "sequence", len(LABELS)])]
    constants = [("table", table), ("last", np.array([2])), ("one", np.array(1))]
    values = [numpy_helper.from_array(value, name) for name, value in constants]
    graph = helper.make_graph(nodes, "tagger", ids, answer, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    _save(model, tokenizer, {"task": "TokenClassification", "output": "logits", "labels": LABELS}, out)


def generation(out: Path) -> None:
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "operator")]
    from tests.worker import tiny

    from optimodel.api.steps import Step
    from optimodel.worker import steps

    with tempfile.TemporaryDirectory() as scratch:
        source = tiny.save_decoder(Path(scratch) / "source", SENTENCES, steps=120)
        steps.run(Step("graph", "Export"), source, out, tiny.context("TextGeneration", Path(scratch)))


def classes(out: Path) -> None:
    images(out, [f"class {n}" for n in range(1000)])


def images(out: Path, labels: list[str] = LABELS) -> None:
    weights = np.random.default_rng(9).normal(scale=0.1, size=(192, len(labels))).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["pixel_values"], ["row"]),
        helper.make_node("MatMul", ["row", "weights"], ["logits"]),
    ]
    given = [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, 8, 8])]
    answer = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(labels)])]
    graph = helper.make_graph(nodes, "images", given, answer, [numpy_helper.from_array(weights, "weights")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    image = {"height": 8, "width": 8, "resize": [10], "resample": 2, "crop": True, "scale": 1 / 255}
    image |= {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
    settings = {"task": "ImageClassification", "output": "logits", "labels": labels, "image": image}
    _save(model, None, {**settings, "inputs": ["pixel_values"]}, out)


def _save(model: onnx.ModelProto, tokenizer: Path | None, settings: dict, out: Path) -> None:
    onnx.checker.check_model(model)
    out.mkdir(parents=True)
    onnx.save(model, out / "model.onnx")
    common = {"version": 1}
    if tokenizer:
        shutil.copyfile(tokenizer, out / "tokenizer.json")
        common |= {"inputs": ["input_ids", "attention_mask"], "maxLength": 512, "padTokenId": 0}
    (out / "model.json").write_text(json.dumps({**common, **settings}))


if __name__ == "__main__":
    _, kind, *paths = sys.argv
    kinds = {"embedding": embedding, "classification": classification, "words": words}
    (kinds | {"generation": generation, "images": images, "classes": classes})[kind](*map(Path, paths))
