"""AWQ itself: what it gains over rounding to nearest, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from tests.worker.test_gptq import GROUP, INPUTS, OUTPUTS, tokens

from optimodel.api.steps import Quantize
from optimodel.worker.steps.quantize import awq, groups

STRONG, UNSEEN = 7, 9
"""Inputs of `tokens`."""


@pytest.fixture
def weights():
    chance = np.random.default_rng(1)
    return [chance.normal(size=(INPUTS, width)).astype(np.float32) for width in (OUTPUTS, 2 * OUTPUTS)]


def lost(found, weights, x):
    return sum(float(np.square(x @ (one - weight)).mean()) for one, weight in zip(found, weights, strict=True))


@pytest.mark.parametrize(("bits", "share"), [(3, 0.5), (4, 0.5), (8, 0.5)])
def test_the_products_of_new_tokens_lose_less_than_by_rounding_to_nearest(weights, bits, share):
    seen, unseen = tokens()[:500], tokens()[500:]
    hessian = seen.T @ seen
    factors = awq.balance(weights, hessian, bits, GROUP)
    assert factors.argmax() == STRONG
    assert factors.min() < factors[UNSEEN] < factors.max(), "an input that never was may still come"
    inner = hessian / np.outer(factors, factors)
    pairs = [awq.clipped(weight * factors[:, None], inner, bits, GROUP) for weight in weights]
    ours = [q * groups.spread(scales, GROUP, INPUTS) / factors[:, None] for q, scales in pairs]
    plain = [weight + awq.error(weight, groups.grid(weight, bits, GROUP), bits, GROUP) for weight in weights]
    print(f"{bits} bits: {lost(ours, weights, unseen) / lost(plain, weights, unseen):.3f} of the loss")
    assert lost(ours, weights, unseen) < share * lost(plain, weights, unseen)


def test_inputs_of_one_strength_are_not_scaled(weights):
    assert (awq.balance(weights, np.eye(INPUTS, dtype=np.float32), 4, GROUP) == 1).all()
    assert (awq.balance(weights, np.zeros((INPUTS, INPUTS), np.float32), 4, GROUP) == 1).all(), (
        "nor are those never seen"
    )


def test_clipping_never_loses_more_than_the_full_scale(weights):
    hessian = tokens().T @ tokens()
    for start in range(0, INPUTS, GROUP):
        part = slice(start, min(start + GROUP, INPUTS))
        weight, inner = weights[0][part], hessian[part, part]
        integers, scales = awq.clipped(weight, inner, 3, GROUP)
        full = groups.grid(weight, 3, GROUP)
        assert (np.abs(scales) <= np.abs(full)).all() and (np.abs(scales) < np.abs(full)).any()
        wrong = [integers * groups.spread(scales, GROUP, len(weight)) - weight, awq.error(weight, full, 3, GROUP)]
        ours, plain = (np.sum(one * (inner @ one), 0) for one in wrong)
        assert (ours <= plain * 1.00001).all()


def test_the_runtime_divides_what_the_weights_were_multiplied_by(weights):
    """At 8 bits next to nothing is lost, also of the strong input; products of one tensor share its scaled copy."""
    x, *y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", None]) for n in ("x", "y0", "y1"))
    nodes = [onnx.helper.make_node("MatMul", ["x", f"w{i}"], [f"y{i}"], name=f"product{i}") for i in range(2)]
    values = [onnx.numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)]
    graph = onnx.helper.make_graph(nodes, "g", [x], y, values)
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid(groups.DOMAIN, 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    readers = [node for node in model.graph.node if node.op_type == "MatMul"]
    settings = Quantize("AWQ", group_size=GROUP, data="d")
    seen, unseen = tokens()[:500], tokens()[500:]
    awq._pack(model, readers, {value.name: value for value in values}, seen.T @ seen, settings)
    assert [node.op_type for node in model.graph.node] == ["Mul", "MatMulNBits", "MatMulNBits"]
    running = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for weight, found in zip(weights, running.run(None, {"x": unseen}), strict=True):
        exact = unseen @ weight
        assert np.linalg.norm(found - exact) < 0.02 * np.linalg.norm(exact)
