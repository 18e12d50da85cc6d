"""GPTQ itself: what it gains over rounding to nearest, and that the runtime computes with the integers that it chose."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from optimodel.api.steps import Quantize
from optimodel.worker.steps.quantize import gptq, groups

INPUTS, OUTPUTS, GROUP = 150, 40, 32
"""The last group is not full."""


@pytest.fixture
def weight():
    return np.random.default_rng(1).normal(size=(INPUTS, OUTPUTS)).astype(np.float32)


def tokens(count=600):
    """Activations like a layer's: of 20 directions, with some noise, one input much larger than the others, and one never used."""
    chance = np.random.default_rng(2)
    found = chance.normal(size=(count, 20)) @ chance.normal(size=(20, INPUTS)) + 0.3 * chance.normal(
        size=(count, INPUTS)
    )
    found[:, 7] *= 30
    found[:, 9] = 0
    return found.astype(np.float32)


def spread(scales):
    return np.repeat(scales, GROUP, 0)[:INPUTS]


def nearest(weight, scales, bits):
    return np.clip(np.round(weight / spread(scales)), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_what_the_product_loses_is_a_fraction_of_what_rounding_to_nearest_loses(weight, bits):
    seen, unseen = tokens()[:500], tokens()[500:]
    scales = groups.grid(weight, bits, GROUP)
    chosen = gptq.rounded(weight, seen.T @ seen, scales, bits, GROUP)
    assert chosen.min() >= -(2 ** (bits - 1)) and chosen.max() < 2 ** (bits - 1)
    lost = [np.square(unseen @ (q * spread(scales) - weight)).mean() for q in (chosen, nearest(weight, scales, bits))]
    assert lost[0] < 0.3 * lost[1]


def test_inputs_that_have_nothing_in_common_are_rounded_to_nearest(weight):
    scales = groups.grid(weight, 4, GROUP)
    chosen = gptq.rounded(weight, np.eye(INPUTS, dtype=np.float32), scales, 4, GROUP)
    assert (chosen == nearest(weight, scales, 4)).all()


@pytest.mark.parametrize("bits", [4, 8])
def test_the_runtime_computes_with_the_integers_that_were_chosen(weight, bits):
    integers = np.random.default_rng(3).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (INPUTS, OUTPUTS))
    scales = groups.grid(weight, bits, GROUP)
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    values = groups.pack(node, integers, scales, Quantize("GPTQ", bits=bits, group_size=GROUP, data="d"))
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", None]) for n in "xy")
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid(groups.DOMAIN, 1)]
    graph = onnx.helper.make_graph([node], "g", [x], [y], values)
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    running = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = running.run(None, {"x": np.eye(INPUTS, dtype=np.float32)})
    assert np.abs(found - integers * spread(scales)).max() < 1e-4 * np.abs(found).max()
