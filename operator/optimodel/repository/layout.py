"""An artifact folder and its settings become a folder that Triton serves."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec

from .. import backends
from ..api.spec import GENERATING, LABELLED, Accelerator, Batching
from . import generation
from .accelerators import Placement
from .models import Description, configs, encoded, front_name, interface, lengths
from .tasks import IMAGE, SERVED

PROBE = "probe.py"
"""The probe script, relative to the repository's root. A file: Triton takes every folder there for a model."""

BACKENDS = Path(backends.__file__).parent


class Settings(msgspec.Struct, frozen=True):
    """How an artifact is served. `model` is the public Triton name; `threads` bounds the core (0 = see `cpus()`); `accelerator`
    None = on the CPU; `half` = a graph of half precision."""

    model: str
    batching: Batching
    threads: int = 0
    accelerator: Accelerator | None = None
    half: bool = False


def cpus() -> int:
    """CPUs that the server may use, at least 1: `OPTIMODEL_CPUS` (the server container's limit, by the downward API),
    else those of this process."""
    given = os.environ.get("OPTIMODEL_CPUS", "")
    return max(1, int(given)) if given.isdigit() and int(given) else len(os.sched_getaffinity(0))


def describe(artifact: Path) -> Description:
    """Read `model.json`. Raises `ValueError` saying what is wrong with it."""
    try:
        description = msgspec.json.decode((artifact / "model.json").read_bytes(), type=Description)
    except (msgspec.DecodeError, FileNotFoundError) as error:
        raise ValueError(f"model.json: {error}") from None
    if description.output == "logits" and description.task in LABELLED and not description.labels:
        raise ValueError("model.json: a graph with logits needs labels")
    if description.output == "last_hidden_state" and description.hidden_size < 1:
        raise ValueError("model.json: a graph with last_hidden_state needs hiddenSize")
    if (description.image is None) == (SERVED[description.task].front is IMAGE):
        raise ValueError(f"model.json: {description.task} and `image` do not belong together")
    if description.image is None and description.max_length < 1:
        raise ValueError("model.json: a graph that reads texts needs maxLength")
    if description.output != SERVED[description.task].output:
        raise ValueError(f"model.json: {description.task} cannot be answered from {description.output}")
    return description


def write(artifact: Path, settings: Settings, out: Path) -> None:
    """Render the model repository of a verified artifact into `out`, in place of an earlier rendering.

    The graph is hard-linked where the file system allows. Raises `ValueError` for an artifact that cannot be served
    as described, `OSError` for the disk.
    """
    description = describe(artifact)
    front = SERVED[description.task].front
    for name in ("model.onnx", *front.files):
        if not (artifact / name).is_file():
            raise ValueError(f"{name} is missing from the artifact")
    model, threads = settings.model, settings.threads or cpus()
    placed = Placement(threads, settings.accelerator, settings.half)
    for name, config in configs(model, description, settings.batching, placed).items():
        shutil.rmtree(out / name, ignore_errors=True)
        (out / name / "1").mkdir(parents=True)
        (out / name / "config.pbtxt").write_text(_text(config))
    if description.task in GENERATING:
        _write_generator(artifact, description, threads, out / model / "1")
    else:
        _write_ensemble(artifact, description, settings, out)
    _write_probe(model, description, out)


def _write_generator(artifact: Path, description: Description, threads: int, folder: Path) -> None:
    _write_python("generator", "arithmetic.py", msgspec.to_builtins(description) | {"threads": threads}, folder)
    shutil.copyfile(BACKENDS / "generation.py", folder / "generation.py")
    for name in ("model.onnx", "tokenizer.json"):
        _link(artifact / name, folder / name)


def _write_ensemble(artifact: Path, description: Description, settings: Settings, out: Path) -> None:
    model, front = settings.model, SERVED[description.task].front
    _link(artifact / "model.onnx", out / f"{model}-core" / "1" / "model.onnx")
    folder = out / front_name(model, description) / "1"
    _write_python(front.backend, front.module, _front(description, settings), folder)
    for name in front.files:
        _link(artifact / name, folder / name)
    _write_python("head", "arithmetic.py", msgspec.to_builtins(description), out / f"{model}-head" / "1")


def _front(description: Description, settings: Settings) -> dict[str, Any]:
    """What the model before the graph has to know."""
    if description.image is not None:
        return {"image": msgspec.to_builtins(description.image), "output": description.inputs[0]}
    sizes = lengths(settings.batching.length_buckets, description.max_length)
    return {"outputs": encoded(description), "lengths": sizes, "padTokenId": description.pad_token_id}


def _write_python(kind: str, module: str, settings: dict[str, Any], folder: Path) -> None:
    shutil.copyfile(BACKENDS / kind / "model.py", folder / "model.py")
    shutil.copyfile(BACKENDS / module, folder / module)
    (folder / "settings.json").write_text(json.dumps(settings))


def _write_probe(model: str, description: Description, out: Path) -> None:
    _, outputs = interface(description)
    front = SERVED[description.task].front
    sizes = {tensor.name: tensor.dims[0] for tensor in outputs}
    settings: dict[str, Any] = {"model": model, "input": front.input.name, "question": front.question, "outputs": sizes}
    script = out / PROBE
    shutil.copyfile(BACKENDS / "probe.py", script)
    settings["inputs"] = generation.PROBE if description.task in GENERATING else []
    script.with_suffix(".json").write_text(json.dumps(settings))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _text(config: dict[str, Any]) -> str:
    """`config.pbtxt` by the protobuf descriptors, which refuse names, enums and types that Triton does not know."""
    from google.protobuf import json_format, text_format
    from tritonclient.grpc import model_config_pb2

    message = json_format.ParseDict(config, model_config_pb2.ModelConfig())
    return str(text_format.MessageToString(message))
