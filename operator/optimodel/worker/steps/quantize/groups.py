"""Weights in groups of 8 or 4 bits that share a scale, as ONNX Runtime packs those of products (MatMulNBits)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optimodel.api.steps import Quantize

INT8 = 4
"""The operator rounds a row's activations to int8 in the same groups while it multiplies: 2.3 times as fast on AVX2 as in fp32,
and still no answer depends on another row."""
DOMAIN = "com.microsoft"
"""Of the operators with packed weights."""


def of(model: Any, bits: int, size: int, excluded: Sequence[str]) -> Any:
    """The model with the weights of its products rounded to nearest in groups of `size`, but for those `excluded` by name."""
    import numpy as np
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(
        model,
        bits=bits,
        block_size=size,
        is_symmetric=True,
        accuracy_level=INT8,
        nodes_to_exclude=list(excluded),
        op_types_to_quantize=("MatMul",),
    )
    with np.errstate(invalid="ignore"):  # rows of zeros, such as the padding token's
        quantizer.process()
    return quantizer.model.model


def grid(weight: Any, bits: int, group: int) -> Any:
    """Scales of shape (groups, outputs) by the library's rule: the largest weight of a group is the lowest integer."""
    import numpy as np

    inputs, outputs = weight.shape
    groups = np.pad(weight, ((0, -inputs % group), (0, 0))).reshape(-1, group, outputs)
    high, low = groups.max(1), groups.min(1)
    return np.where(np.abs(high) > np.abs(low), high, low) / np.float32(-(2 ** (bits - 1)))


def nearest(weight: Any, scales: Any, bits: int, group: int) -> Any:
    """Integers, of shape (inputs, outputs) like `weight`, closest to it when multiplied by their group's scale."""
    import numpy as np

    steps = spread(np.where(scales == 0, 1, scales), group, len(weight))
    return np.clip(np.round(weight / steps), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def spread(scales: Any, group: int, inputs: int) -> Any:
    """The scale of each weight, of shape (inputs, outputs)."""
    import numpy as np

    return np.repeat(scales, group, 0)[:inputs]


def pack(node: Any, integers: Any, scales: Any, settings: Quantize) -> tuple[Any, Any]:
    """Turn a product into one with packed weights, given as integers (inputs, outputs) and scales (groups, outputs); the two
    tensors that it then reads."""
    import numpy as np
    import onnx

    bits, group = settings.bits, settings.group_size
    inputs, outputs = integers.shape
    whole = np.pad(integers, ((0, -inputs % group), (0, 0))) + 2 ** (bits - 1)
    blobs = whole.T.reshape(outputs, -1, group).astype(np.uint8)
    if bits == 4:
        blobs = blobs[..., ::2] | blobs[..., 1::2] << 4
    name = node.input[1]
    values = (
        onnx.numpy_helper.from_array(blobs, f"{name}_Q{bits}"),
        onnx.numpy_helper.from_array(np.ascontiguousarray(scales.T), f"{name}_scales"),
    )
    shape = {"K": inputs, "N": outputs, "bits": bits, "block_size": group, "accuracy_level": INT8}
    reads = [node.input[0], *(value.name for value in values)]
    packed = onnx.helper.make_node("MatMulNBits", reads, node.output, name=node.name, domain=DOMAIN, **shape)
    node.CopyFrom(packed)
    return values
