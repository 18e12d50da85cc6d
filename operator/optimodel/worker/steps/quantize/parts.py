"""Which node of an exported graph belongs to which part of the model, so that a part can keep its precision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import Failure

LAYER = ("AttentionOutput", "FFNUp", "FFNDown")
"""The products with weights that follow a layer's two products of activations (scores, context), in the order of what they read:
a decoder's gate reads what its way up reads."""


def load(graph: Path) -> Any:
    """The graph with its Gemm nodes written as MatMul and Add, which is what the quantisers know."""
    import onnx
    from onnxruntime.quantization.onnx_model import ONNXModel

    model = ONNXModel(onnx.load(graph))
    model.replace_gemm_with_matmul()
    return model.model


def untie(model: Any) -> None:
    """Give products weights of their own where they read a table transposed, as the head of a decoder reads its embeddings: only
    what is stored can be quantised."""
    from onnx import numpy_helper

    tables = {value.name: value for value in model.graph.initializer}
    for node in [n for n in model.graph.node if n.op_type == "Transpose" and n.input[0] in tables]:
        turned = numpy_helper.to_array(tables[node.input[0]]).transpose(node.attribute[0].ints).copy()
        model.graph.initializer.append(numpy_helper.from_array(turned, node.output[0]))
        model.graph.node.remove(node)


def parts(model: Any) -> dict[str, str]:
    """Node name → part, for every table look-up of weights and every matrix product of an encoder or decoder.

    By order, not by name: the exporter folds the weights' names away and merges equal biases. A layer is its queries, keys and
    values, two products of activations, and `LAYER`; what follows the last layer is the head.
    """
    constants = {value.name for value in model.graph.initializer}
    constants |= {n.output[0] for n in model.graph.node if n.op_type == "Transpose" and n.input[0] in constants}
    found: dict[str, str] = {}
    products = []
    for node in model.graph.node:
        if node.op_type == "Gather" and node.input[0] in constants:
            found[node.name] = "Embeddings"
        elif node.op_type == "MatMul":
            products.append((node.name, node.input[0] if constants & set(node.input) else None))
    last = max((index for index, (_, read) in enumerate(products) if read is None), default=-1)
    activations, behind, reading = 0, list[str](), ""
    for index, (name, read) in enumerate(products):
        if read is None:
            activations += 1
            behind = list(LAYER) if activations % 2 == 0 else behind
            found[name], reading = "Attention", ""
        elif read == reading:
            found[name] = found[products[index - 1][0]]
        else:
            found[name] = behind.pop(0) if behind else "Attention" if index < last else "Head"
            reading = read
    return found


def excluded(model: Any, wanted: Sequence[str]) -> list[str]:
    """Names of the nodes in the parts `wanted`. Raises `Failure` for a part that the graph does not have."""
    known = parts(model)
    if missing := sorted(set(wanted) - set(known.values())):
        have = ", ".join(sorted(set(known.values())))
        raise Failure("PartNotFound", f"`exclude` names {missing[0]}, but the graph has {have}. Name one of these.")
    return [name for name, part in known.items() if part in wanted]


def products(model: Any, excluded: Sequence[str] = ()) -> dict[str, list[Any]]:
    """Tensor → the products with weights that read it, in the order of the graph."""
    constants = {value.name for value in model.graph.initializer}
    found: dict[str, list[Any]] = {}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in constants and node.name not in excluded:
            found.setdefault(node.input[0], []).append(node)
    return found
