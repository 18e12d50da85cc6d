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
from .models import Description, configs, interface, lengths, tokenized
from .tasks import SERVED

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
    if description.output != SERVED[description.task].output:
        raise ValueError(f"model.json: {description.task} cannot be answered from {description.output}")
    return description


def write(artifact: Path, settings: Settings, out: Path) -> None:
    """Render the model repository of a verified artifact into `out`, in place of an earlier rendering.

    The graph is hard-linked where the file system allows. Raises `ValueError` for an artifact that cannot be served
    as described, `OSError` for the disk.
    """
    description = describe(artifact)
    for name in ("model.onnx", "tokenizer.json"):
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
        _link(artifact / "model.onnx", out / f"{model}-core" / "1" / "model.onnx")
        _write_tokenizer(artifact, description, settings, out / f"{model}-tokenizer" / "1")
        _write_python("head", json.loads(msgspec.json.encode(description)), out / f"{model}-head" / "1")
    _write_probe(model, description, out)


def _write_generator(artifact: Path, description: Description, threads: int, folder: Path) -> None:
    _write_python("generator", json.loads(msgspec.json.encode(description)) | {"threads": threads}, folder)
    shutil.copyfile(BACKENDS / "generation.py", folder / "generation.py")
    for name in ("model.onnx", "tokenizer.json"):
        _link(artifact / name, folder / name)


def _write_tokenizer(artifact: Path, description: Description, settings: Settings, folder: Path) -> None:
    sizes = lengths(settings.batching.length_buckets, description.max_length)
    values = {"outputs": tokenized(description), "lengths": sizes, "padTokenId": description.pad_token_id}
    _write_python("tokenizer", values, folder)
    _link(artifact / "tokenizer.json", folder / "tokenizer.json")


def _write_python(kind: str, settings: dict[str, Any], folder: Path) -> None:
    shutil.copyfile(BACKENDS / kind / "model.py", folder / "model.py")
    shutil.copyfile(BACKENDS / "arithmetic.py", folder / "arithmetic.py")
    (folder / "settings.json").write_text(json.dumps(settings))


def _write_probe(model: str, description: Description, out: Path) -> None:
    _, outputs = interface(description)
    sizes = {tensor.name: tensor.dims[0] for tensor in outputs}
    script = out / PROBE
    shutil.copyfile(BACKENDS / "probe.py", script)
    values = {"model": model, "outputs": sizes, "inputs": generation.PROBE if description.task in GENERATING else []}
    script.with_suffix(".json").write_text(json.dumps(values))


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
