"""`Quantize`: the graph with smaller numbers. One module a method; each result is checked in a fresh process."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from optimodel import repository
from optimodel.api.steps import Quantize
from optimodel.backends.generation import PAST, Decoder

from ...errors import Failure
from ..technique import Context, Technique, verify
from . import awq, bfloat16, dynamic, float16, fp8, gptq, static, weight_only
from .parts import excluded, load, untie

MIN_COSINE = 0.5
"""Below this the answers have little to do with their originals: broken rather than coarse. Quality is the gates' matter."""
CHECKED = (3, 23)
METHODS = {
    "Dynamic": dynamic.run,
    "Static": static.run,
    "WeightOnly": weight_only.run,
    "GPTQ": gptq.run,
    "AWQ": awq.run,
    "FP8": fp8.run,
    "Float16": float16.run,
    "BFloat16": bfloat16.run,
}


def run(settings: Quantize, source: Path, out: Path, context: Context) -> None:
    """Quantise `model.onnx`, check that the result runs elsewhere, and carry the other files over. Raises `Failure`."""
    graph = source / "model.onnx"
    if not graph.exists():
        raise Failure("WrongOrder", "Quantize needs a graph. Put an Export step before it.")
    context.report(10, "quantising")
    (out / "model.onnx").write_bytes(make(settings, source, context))
    context.report(70, "verifying")
    reference = context.scratch / "quantize-reference.npz"
    _save_reference(source, reference, context.threads)
    figures = verify(
        out / "model.onnx",
        reference,
        max_difference=float("inf"),
        min_cosine=MIN_COSINE,
        accelerator=context.accelerator,
    )
    context.report(95, f"cosine {figures['cosine']:.3f}")
    for name in ("model.json", *repository.SERVED[context.task].front.files):
        shutil.copyfile(source / name, out / name)


def make(settings: Quantize, source: Path, context: Context) -> bytes:
    """The quantised graph of an exported folder, not yet checked. Raises `Failure`."""
    for name in (
        "",
        "onnxruntime.quantization",
    ):  # it advises fusions that it then cannot quantise, and tells of every node
        logging.getLogger(name).setLevel(logging.ERROR)
    model = load(source / "model.onnx")
    if settings.method not in ("Float16", "BFloat16"):
        untie(model)
    result = METHODS[settings.method](model, settings, source, excluded(model, settings.exclude), context)
    _anonymous(result)
    return bytes(result.SerializeToString(deterministic=True))


def _anonymous(model: Any) -> None:
    """Drop inferred shapes and words that the runtime does not need."""
    del model.graph.value_info[:]
    for item in (model, model.graph, *model.graph.node):
        item.ClearField("doc_string")


def _save_reference(source: Path, path: Path, threads: int) -> None:
    """What the parent answers at a shape of its own."""
    import numpy as np

    from ...inference.answers import session
    from ...inference.fronts import of

    inputs, parent = (
        of(source, repository.describe(source), ()).sample(*CHECKED),
        session(source / "model.onnx", threads),
    )
    if any(tensor.name.startswith(PAST) for tensor in parent.get_inputs()):
        decoder = Decoder(parent)
        expected, _ = decoder.run(inputs["input_ids"], inputs["attention_mask"], decoder.empty(CHECKED[0]))
    else:
        (expected,) = parent.run(None, inputs)
    np.savez(path, expected=expected, **inputs)


TECHNIQUE = Technique(revision=5, tools=("onnxruntime", "onnx"), run=run)
