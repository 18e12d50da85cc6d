"""Look-up tables in smaller numbers: int8 with one scale a table, or 4 bits with one a group along each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from optimodel.api.steps import Quantize

from ...training.rounding import in_few_bits
from . import groups, integers

BITS = 4


def run(model: Any, settings: Quantize, excluded: Sequence[str]) -> Any:
    """The model with its tables in `embeddingBits`, left out = `bits`. No answer depends on another row."""
    if (settings.embedding_bits or settings.bits) == BITS:
        packed = [node for node in _large(model) if node.name not in excluded]
        for node in packed:
            _pack(model, node, settings.group_size)
        excluded = (*excluded, *(name for node in packed for name in _names(node)))
    return integers.of(model, "Gather", excluded)


def _tables(model: Any) -> dict[str, Any]:
    return {value.name: value for value in model.graph.initializer if len(value.dims) == 2}


def _large(model: Any) -> list[Any]:
    """The look-ups by (batch, tokens) in tables that are worth it."""
    known = _tables(model)
    nodes = [node for node in model.graph.node if node.op_type == "Gather" and node.input[0] in known]
    packed = in_few_bits([known[node.input[0]].dims[0] for node in nodes])
    return [node for node, wanted in zip(nodes, packed, strict=True) if wanted]


def _names(node: Any) -> tuple[str, str]:
    """Of the two look-ups that stand in for one."""
    return f"{node.name}_packed", f"{node.name}_scales"


def _pack(model: Any, node: Any, group: int) -> None:
    """Let a look-up find packed rows and their scales, and unpack what it found alone. ONNX Runtime's own operator for this
    (GatherBlockQuantized) takes ten times as long: 0.12 ms for 32 tokens, a sixth of a small model's answer."""
    import numpy as np
    from onnx import numpy_helper

    table = numpy_helper.to_array(_tables(model)[node.input[0]]).T
    scales = groups.grid(table, BITS, group)
    whole = np.pad(groups.nearest(table, scales, BITS, group), ((0, -len(table) % group), (0, 0))) + 2 ** (BITS - 1)
    low, high = np.split(whole.T.astype(np.uint8), 2, 1)
    stored = {
        "packed": low | high << BITS,
        "scales": scales.T[..., None].astype(np.float32),
        "mask": np.uint8(2**BITS - 1),
        "bits": np.uint8(BITS),
        "one": np.float32(1),
        "zero": np.uint8(2 ** (BITS - 1)),
        "grouped": np.array([0, 0, len(scales), group]),
        "row": np.array([0, 0, len(whole)]),
        "width": np.array([len(table)]),
        "start": np.array([0]),
        "axis": np.array([-1]),
    }
    at = list(model.graph.node).index(node)
    made = list(_unpacked(node, len(whole) != len(table)))
    used = {name for one in made for name in one.input}
    prefix = f"{node.name}_table_"
    values = {f"{prefix}{name}": value for name, value in stored.items()}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v), name) for name, v in values.items() if name in used
    )
    model.graph.node.remove(node)
    for one in reversed(made):
        model.graph.node.insert(at, one)


def _unpacked(node: Any, cut: bool) -> Iterator[Any]:
    """The nodes that stand in for a look-up: the first half of a row lies in the low bits, the second in the high ones."""
    from onnx import helper

    table, name = f"{node.name}_table_", node.name
    packed, scales = _names(node)

    def made(kind: str, out: str, *reads: str, **attributes: Any) -> Any:
        return helper.make_node(kind, reads, [out], name=out, **attributes)

    yield made("Gather", packed, f"{table}packed", node.input[1])
    yield made("BitwiseAnd", f"{name}_low", packed, f"{table}mask")
    yield made("BitShift", f"{name}_high", packed, f"{table}bits", direction="RIGHT")
    yield made("Concat", f"{name}_whole", f"{name}_low", f"{name}_high", axis=-1)
    yield made("DequantizeLinear", f"{name}_centred", f"{name}_whole", f"{table}one", f"{table}zero")
    yield made("Reshape", f"{name}_grouped", f"{name}_centred", f"{table}grouped")
    yield made("Gather", scales, f"{table}scales", node.input[1])
    yield made("Mul", f"{name}_scaled", f"{name}_grouped", scales)
    if cut:
        yield made("Reshape", f"{name}_padded", f"{name}_scaled", f"{table}row")
        yield made("Slice", node.output[0], f"{name}_padded", f"{table}start", f"{table}width", f"{table}axis")
    else:
        yield made("Reshape", node.output[0], f"{name}_scaled", f"{table}row")
