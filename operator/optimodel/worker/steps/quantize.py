"""`Quantize`: weights of matrix products and embeddings to int8; activations are quantised while running."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from optimodel.api.spec import Quantize

from ..errors import Failure
from .technique import Context, Technique, verify

MIN_COSINE = 0.5
"""Below this a token's vector has nothing to do with its original: broken rather than coarse. Quality is the gates' matter."""
CHECKED = (3, 23)


def run(settings: Quantize, source: Path, out: Path, context: Context) -> None:
    """Quantise `model.onnx`, check that the result runs elsewhere, and carry the other files over."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = source / "model.onnx"
    if not graph.exists():
        raise Failure("WrongOrder", "Quantize needs a graph. Put an Export step before it.")
    logging.getLogger().setLevel(logging.ERROR)  # the library advises fusions that it then cannot quantise
    context.report(10, "quantising")
    quantize_dynamic(
        graph,
        out / "model.onnx",
        op_types_to_quantize=["MatMul", "Gather"],
        per_channel=settings.per_channel,
        weight_type=QuantType.QInt8,
    )
    context.report(70, "verifying")
    reference = context.scratch / "quantize-reference.npz"
    _save_reference(graph, reference, context.threads)
    figures = verify(out / "model.onnx", reference, max_difference=float("inf"), min_cosine=MIN_COSINE)
    context.report(95, f"smallest token cosine {figures['minCosine']:.3f}")
    for name in ("tokenizer.json", "model.json"):
        shutil.copyfile(source / name, out / name)


def _save_reference(graph: Path, path: Path, threads: int) -> None:
    """What the parent answers at a shape of its own."""
    import numpy as np
    import onnxruntime as ort
    from tokenizers import Tokenizer

    vocabulary = Tokenizer.from_file(str(graph.with_name("tokenizer.json"))).get_vocab_size()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    ids = np.random.default_rng(7).integers(0, vocabulary, CHECKED)
    values = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    inputs = {i.name: values[i.name] for i in session.get_inputs()}
    (expected,) = session.run(None, inputs)
    np.savez(path, expected=expected, **inputs)


TECHNIQUE = Technique(revision=1, tools=("onnxruntime", "onnx"), run=run)
