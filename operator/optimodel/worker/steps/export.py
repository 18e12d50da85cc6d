"""`Export`: a model folder becomes one ONNX graph that gives token vectors or logits (a decoder's has its cache), with `model.json`
and what its front reads."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optimodel.api.spec import GENERATING
from optimodel.api.steps import Export

from ..errors import Failure
from ..inference import fronts
from ..source import check_folder
from ..training.loading import load
from . import decoder, describe
from .technique import Context, Technique, max_difference, verify

OPSET = 20
TRACED, CHECKED = (2, 16), (3, 23)
"""Batch and sequence at which the model is traced, and at which the graph is checked."""
TEXT_AXES, IMAGE_AXES = {0: "batch", 1: "sequence"}, {0: "batch"}
"""Dimensions that may be of any size."""


def run(settings: Export, source: Path, out: Path, context: Context) -> None:
    """Trace the model in eval mode with eager attention, check the graph elsewhere, and describe it."""
    import torch

    logging.getLogger("transformers").setLevel(logging.ERROR)
    torch.set_num_threads(context.threads)
    config = check_folder(source, context.task)
    context.report(5, "loading")
    model, processor = load(source, context.task)
    description = describe.describe(source, config, context.task, processor)
    core = _core(model, description["output"], description["inputs"])
    vocabulary = int(config.get("vocab_size", 0))
    reference = context.scratch / "export-reference.npz"
    _save_reference(core, description, vocabulary, reference)
    context.report(20, "tracing")
    (out / "model.onnx").write_bytes(_graph(model, core, config, description))
    context.report(80, "verifying")
    verify(out / "model.onnx", reference, max_difference=max_difference(context.task), min_cosine=0.9999)
    describe.write(source, out, description, processor)


def _core(model: Any, output: str, inputs: list[str]) -> Any:
    """The part of the model that becomes the graph: named tensors in, one tensor out."""
    import torch

    class Core(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *values: Any) -> Any:
            return getattr(self.model(**dict(zip(inputs, values, strict=True))), output)

    return Core().eval()


def _graph(model: Any, core: Any, config: dict[str, Any], description: dict[str, Any]) -> bytes:
    """What is traced: the model from a question to one answer, or a decoder with its cache."""
    vocabulary = int(config.get("vocab_size", 0))
    if description["task"] in GENERATING:
        sample = decoder.sample(config, vocabulary)
        return _trace(decoder.core(model), sample, decoder.inputs(config), decoder.outputs(config))
    inputs = dict.fromkeys(description["inputs"], IMAGE_AXES if "image" in description else TEXT_AXES)
    values = _tensors(fronts.sample(description, *TRACED, vocabulary, ragged=True))
    return _trace(core, tuple(values[name] for name in inputs), inputs, [description["output"]])


def _tensors(values: Mapping[str, Any]) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(value) for name, value in values.items()}


def _trace(core: Any, sample: tuple[Any, ...], inputs: Mapping[str, Mapping[int, str]], outputs: list[str]) -> bytes:
    """Export with the named dimensions of the inputs, without what tells where and how it was made."""
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            core,
            sample,
            dynamo=True,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=(tuple(inputs.values()),),
            external_data=False,
            opset_version=OPSET,
            verbose=False,
        )
    model = program.model_proto
    for value in model.graph.input:
        dims = {n: dim.dim_param for n, dim in enumerate(value.type.tensor_type.shape.dim) if dim.dim_param}
        if dims != inputs[value.name]:
            raise Failure(
                "StepNotVerified", f"Input {value.name} was exported with dimensions {dims}. Report this model."
            )
    _anonymous(model)
    return bytes(model.SerializeToString(deterministic=True))


def _anonymous(model: Any) -> None:
    """Drop stack traces and paths, which would change the digest from machine to machine, and inferred shapes, which a
    later step that transposes a weight would contradict."""
    graph = model.graph
    del graph.value_info[:]
    parts = [graph.node, graph.input, graph.output, graph.initializer, model.functions]
    for item in (model, graph, *(x for part in parts for x in part)):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")


def _save_reference(core: Any, description: dict[str, Any], vocabulary: int, path: Path) -> None:
    """Inputs and what the model answers to them. Raises `Failure`."""
    import numpy as np
    import torch

    values = fronts.sample(description, *CHECKED, vocabulary, ragged=True)
    with torch.no_grad():
        expected = core(*_tensors(values).values()).numpy()
    if not np.isfinite(expected).all():
        raise Failure("ModelNotFinite", "Answers of the model are NaN or infinite. Use other weights.")
    np.savez(path, expected=expected, **values)


TECHNIQUE = Technique(revision=2, tools=("torch", "transformers", "onnx", "onnxscript"), run=run)
