"""What a source may hold. The listing is judged before a byte is fetched, the folder before anything is loaded."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path
from typing import Any

from optimodel.api.spec import LABELLED, Task
from optimodel.artifacts import UnsafePath
from optimodel.artifacts.manifest import safe

from ..errors import Failure
from ..tasks import KINDS
from .images import FILE as PROCESSOR

Listing = Mapping[str, int]
"""File name -> size in bytes (0 = unknown)."""

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
VIRTUAL_TOKENS = "virtual_tokens.safetensors"
"""Weights of a `FineTune` that leaves the model's own as they are."""
SHARDS = "model-*.safetensors"
LOADED = (WEIGHTS, SHARDS, VIRTUAL_TOKENS)
CODE = re.compile(r"(modeling|configuration|tokenization|processing|image_processing|feature_extraction)[^/]*\.py$")
"""As a model's own code is named. Other scripts beside it, such as the one that trained it, are no part of it."""
WANTED = (
    "config.json",
    "generation_config.json",
    "chat_template.jinja",
    "tokenizer*",
    "*.safetensors",
    INDEX,
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "modules.json",
    "sentence_bert_config.json",
    PROCESSOR,
)
POOLING = "1_Pooling/config.json"
OBJECTS = (
    "config.json",
    "tokenizer_config.json",
    PROCESSOR,
    INDEX,
    "generation_config.json",
    "sentence_bert_config.json",
    POOLING,
)
"""Documents that hold an object each, where they are there."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack")
MAX_SOURCE_BYTES = 8 << 30
MAX_GRAPH_BYTES = (2 << 30) - (32 << 20)
"""A graph is one protobuf, of 2 GiB at most; the rest is for what is not weights."""
MAX_JSON_BYTES = 4 << 20
MAX_FILES = 2000


def choose(listing: Listing) -> list[str]:
    """The files to fetch. Raises `Failure` for what must not, or need not, be fetched at all."""
    if not listing:
        raise Failure("SourceNotFound", "The source holds no files. Check the path; this is retried.", world=True)
    if len(listing) > MAX_FILES:
        raise Failure(
            "SourceTooLarge", f"The source holds more than {MAX_FILES} files. Point at the model's own folder."
        )
    for name in listing:
        try:
            safe(name)
        except UnsafePath as error:
            raise Failure("UnsafePath", str(error)) from error
    scripts = sorted(name for name in listing if CODE.match(name.rpartition("/")[2]))
    if scripts:
        raise _custom_code(f"the source holds {scripts[0]}")
    wanted = sorted(name for name in listing if name == POOLING or ("/" not in name and _matches(name)))
    if WEIGHTS in wanted or (INDEX in wanted and any(fnmatch(name, SHARDS) for name in wanted)):
        wanted = [n for n in wanted if not n.endswith(".safetensors") or any(fnmatch(n, loaded) for loaded in LOADED)]
    if not any(name.endswith(".safetensors") for name in wanted):
        raise _no_weights(listing)
    if "config.json" not in wanted:
        raise Failure("ConfigMissing", "The source has no config.json. Save the model with save_pretrained.")
    size = sum(listing[name] for name in wanted)
    if size > MAX_SOURCE_BYTES:
        raise Failure("SourceTooLarge", f"The source has {size >> 20} MiB; the limit is {MAX_SOURCE_BYTES >> 20} MiB.")
    return wanted


def _matches(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in WANTED) and not name.endswith(PICKLES)


def _custom_code(why: str) -> Failure:
    return Failure(
        "CustomCodeRefused",
        f"The model brings code of its own ({why}), which is never run. Use a model of a built-in architecture: "
        f"{', '.join(dict.fromkeys(chain.from_iterable(kind.models for kind in KINDS.values())))}.",
    )


def _no_weights(listing: Listing) -> Failure:
    pickles = sorted(name for name in listing if name.endswith(PICKLES))
    if pickles:
        return Failure(
            "PickleWeights",
            f"The weights are only there as {pickles[0]}, a format that can run code when it is loaded. "
            "Save them as safetensors: model.save_pretrained(folder, safe_serialization=True).",
        )
    return Failure("WeightsMissing", "The source has no *.safetensors. Save the model with save_pretrained.")


def read_json(path: Path) -> Any:
    """A bounded JSON file. Raises `Failure` when it is not one."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise Failure("SourceTooLarge", f"{path.name} is larger than {MAX_JSON_BYTES >> 20} MiB.")
        return json.loads(path.read_bytes())
    except ValueError as error:
        message = f"{path.name} is not JSON (cut off?). Upload it again; this is retried."
        raise Failure("SourceTruncated", message, world=True) from error


def _object(folder: Path, name: str) -> dict[str, Any]:
    found = read_json(folder / name)
    if not isinstance(found, dict):
        raise Failure("ModelUnloadable", f"{name} does not hold an object. Save the model again with save_pretrained.")
    return found


def check_folder(folder: Path, task: Task, *, headless: bool = False) -> dict[str, Any]:
    """Check a model folder without loading it, and return its config. `headless` = a first step makes the head of a
    classifier that has none. Raises `Failure`."""
    config = _object(folder, "config.json")
    for name in OBJECTS:
        if (folder / name).exists() and "auto_map" in _object(folder, name):
            raise _custom_code(f"auto_map in {name}")
    kind = config.get("model_type")
    if kind not in KINDS[task].models:
        supported = ", ".join(KINDS[task].models)
        message = f"model_type {kind!r} is not supported for {task}. Supported: {supported}."
        raise Failure("UnsupportedArchitecture", message)
    _check_head(config, task, headless)
    _check_size(sum(map(_check_safetensors, weights(folder))))
    return config


def weights(folder: Path) -> list[Path]:
    """The files that a model is loaded from, as transformers chooses: the one file, else the shards of an index, which must be there
    in any case. Others beside them are copies in other numbers, or another's. Raises `Failure`."""
    found = _shards(folder)
    if (folder / WEIGHTS).exists():
        found = [folder / WEIGHTS]
    if not found:
        raise Failure("WeightsMissing", f"The source has no {WEIGHTS}. Save the model with save_pretrained.")
    return [*found, *(path for path in [folder / VIRTUAL_TOKENS] if path.exists())]


def _shards(folder: Path) -> list[Path]:
    """The files that the index names; none without one. Raises `Failure`."""
    named = _object(folder, INDEX).get("weight_map", {}) if (folder / INDEX).exists() else {}
    if not isinstance(named, dict) or not all(isinstance(shard, str) for shard in named.values()):
        message = f"The weight_map of {INDEX} does not name a file for each weight. Save the model again with save_pretrained."
        raise Failure("ModelUnloadable", message)
    found = [folder / safe_name(shard) for shard in sorted(set(named.values()))]
    for path in found:
        if not path.is_file():
            message = f"{path.name} is missing. Upload it again; this is retried."
            raise Failure("SourceTruncated", message, world=True)
    return found


def head(folder: Path) -> list[str]:
    """Names of the labels that the folder's head gives; empty without a head for labels."""
    config = read_json(folder / "config.json")
    made_for = str((config.get("architectures") or [""])[0])
    return labels(config) if made_for.endswith("Classification") else []


def labels(config: Mapping[str, Any]) -> list[str]:
    """Names of the labels of a head by their numbers, as transformers reads them: a config may count them only, and says nothing
    of two. Raises `Failure`."""
    named, count = config.get("id2label"), config.get("num_labels")
    if isinstance(named, dict):
        try:
            return [str(named[key]) for key in sorted(named, key=int)]
        except ValueError as error:
            message = "id2label in config.json has keys that are no numbers. Save the model again with save_pretrained."
            raise Failure("ModelUnloadable", message) from error
    return [f"LABEL_{number}" for number in range(count if isinstance(count, int) else 2)]


def safe_name(name: Any) -> str:
    """A plain file name from a document of the source. Raises `Failure`."""
    try:
        return safe(str(name))
    except UnsafePath as error:
        raise Failure("UnsafePath", str(error)) from error


def _check_head(config: Mapping[str, Any], task: Task, headless: bool) -> None:
    wanted, made_for = KINDS[task].architecture, (config.get("architectures") or ["nothing"])[0]
    if headless and task in LABELLED and not made_for.endswith(wanted):
        return
    if not made_for.endswith(wanted):
        begin = "Begin the steps with a FineTune, which makes one, or use" if task in LABELLED else "Use"
        raise Failure(
            "UnsupportedArchitecture",
            f"Task {task} needs a model with a head of its own (…{wanted}), not {made_for}. "
            f"{begin} the task that the model was made for.",
        )
    if task not in LABELLED:
        return
    if config.get("problem_type") not in (None, "single_label_classification") or len(labels(config)) < 2:
        raise Failure(
            "UnsupportedArchitecture", "Only single-label classification over two or more labels is supported."
        )


def _check_size(count: int) -> None:
    if 4 * count > MAX_GRAPH_BYTES:
        raise Failure(
            "SourceTooLarge",
            f"The model has {count / 1e6:.0f} million weights, and a graph in fp32, which everything begins with, holds "
            f"{MAX_GRAPH_BYTES // 4 // 10**6} million at most. Use a smaller model of the family.",
        )


def _check_safetensors(path: Path) -> int:
    """The number of weights. The header says how long the file must be: a download that was cut off is found before it is loaded."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
        header = stream.read(length) if 0 <= length <= min(size, 100 << 20) else b""
    try:
        tensors = {k: v for k, v in json.loads(header).items() if k != "__metadata__"}
        end = 8 + length + max((t["data_offsets"][1] for t in tensors.values()), default=0)
        count: int = sum(math.prod(t["shape"]) for t in tensors.values())
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        end, count = -1, 0
    if end != size:
        want = f"{end} bytes expected" if end >= 0 else "its header cannot be read"
        message = f"{path.name} has {size} bytes, {want}: cut off or damaged. Upload it again; this is retried."
        raise Failure("SourceTruncated", message, world=True)
    return count


def weight_bytes(folder: Path) -> int:
    """Bytes of the weights of a source or of a step's result."""
    graph = folder / "model.onnx"
    return sum(path.stat().st_size for path in ([graph] if graph.exists() else weights(folder)))
