"""`model.json`: what surrounds the graph, read from the source's own documents."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optimodel import repository
from optimodel.api.spec import GENERATING, LABELLED, Task

from ..errors import Failure
from ..source.checks import POOLING, labels, read_json
from ..tasks import KINDS
from ..training import prompts

MAX_LENGTH, MAX_CONTEXT = 512, 2048
"""In tokens, of what is read at once, and of what a decoder reads and writes: its cache grows with each."""
MARK = "e2f1c0d4"
"""Stands for what a person says while a chat template is filled in."""
_UNLIMITED = 1 << 20
"""Tokenizers write absurd lengths for "no limit"."""


def describe(source: Path, config: Mapping[str, Any], task: Task, processor: Any) -> dict[str, Any]:
    """The description of the artifact made of this source, whose `processor` is as `loading.load` gives it. Raises `Failure`."""
    found: dict[str, Any] = {"version": 1, "task": task, "output": repository.SERVED[task].output}
    found |= (
        {"image": processor, "inputs": ["pixel_values"]}
        if KINDS[task].images
        else _texts(source, config, task, processor)
    )
    if task in GENERATING:
        return found | {"eosTokenIds": _ends(source, config, processor), "chat": _chat(processor)}
    if task in LABELLED:
        return found | {"labels": labels(config)}
    pooling, normalize = _pooling(source)
    return found | {"pooling": pooling, "normalize": normalize, "labels": []}


def _texts(source: Path, config: Mapping[str, Any], task: Task, tokenizer: Any) -> dict[str, Any]:
    types = config["model_type"] == "bert" and config.get("type_vocab_size", 2) > 1
    pad = config.get("pad_token_id")
    return {
        "inputs": ["input_ids", "attention_mask", *(["token_type_ids"] if types else [])],
        "maxLength": max_length(source, config, task, prompts.count(source), tokenizer.model_max_length),
        "padTokenId": 0 if pad is None else pad,
        "hiddenSize": config.get("hidden_size") or config.get("dim"),
    }


def max_length(source: Path, config: Mapping[str, Any], task: Task, virtual_tokens: int, known: float) -> int:
    """Longest input in tokens: the smallest of what the task, positions (behind virtual tokens), the tokenizer's `known` limit and
    sentence-transformers allow. Raises `Failure`."""
    most = MAX_CONTEXT if task in GENERATING else MAX_LENGTH
    limits = [most, prompts.room(positions(config), virtual_tokens), int(min(known, _UNLIMITED))]
    sentence = source / "sentence_bert_config.json"
    if sentence.exists():
        limits.append(int(read_json(sentence).get("max_seq_length") or MAX_LENGTH))
    return min(limits)


def foreseen(source: Path, task: Task, virtual_tokens: int) -> int:
    """`max_length` of what becomes of a source with so many virtual tokens, by its documents alone; of images no bound. Raises
    `Failure`."""
    if KINDS[task].images:
        return _UNLIMITED
    path = source / "tokenizer_config.json"
    try:
        known = (read_json(path) if path.exists() else {}).get("model_max_length") or _UNLIMITED
        return max_length(source, read_json(source / "config.json"), task, virtual_tokens, float(known))
    except (ValueError, TypeError, AttributeError):  # what loads such documents says what is wrong with them
        return _UNLIMITED


def positions(config: Mapping[str, Any]) -> int:
    """Tokens that the model has positions for. RoBERTa counts them from behind its padding's number."""
    known = int(config.get("max_position_embeddings") or MAX_LENGTH)
    return known - int(config.get("pad_token_id") or 1) - 1 if config["model_type"] == "roberta" else known


def _ends(source: Path, config: Mapping[str, Any], tokenizer: Any) -> list[int]:
    """Tokens that end a text: as the folder says of generation, else of the model, else of the tokenizer."""
    path = source / "generation_config.json"
    said = read_json(path) if path.exists() else {}
    for found in (said.get("eos_token_id"), config.get("eos_token_id"), tokenizer.eos_token_id):
        if found is not None:
            return list(found) if isinstance(found, list) else [found]
    return []


def _chat(tokenizer: Any) -> list[str] | None:
    """What the chat template puts before and behind a person's first words; nothing without a template, or with one that does
    not hold the words as they are."""
    if not tokenizer.chat_template:
        return None
    said = [{"role": "user", "content": MARK}]
    try:
        found = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True).split(MARK)
    except Exception as error:  # whatever a template of the source makes jinja say
        message = f"The chat template cannot be filled in: {' '.join(str(error).split())[:200]}. Mend or remove it."
        raise Failure("ModelUnloadable", message) from error
    return found if len(found) == 2 else None


def _pooling(source: Path) -> tuple[str, bool]:
    """Pooling and normalisation as sentence-transformers' documents say; masked mean and unit length without them."""
    normalize = True
    if (source / "modules.json").exists():
        kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in read_json(source / "modules.json")]
        odd = sorted(set(kinds) - {"Transformer", "Pooling", "Normalize"})
        if odd:
            raise Failure(
                "UnsupportedArchitecture", f"modules.json asks for {odd[0]}, which is not supported. Remove it."
            )
        normalize = "Normalize" in kinds
    if not (source / POOLING).exists():
        return "mean", normalize
    modes = {k for k, v in read_json(source / POOLING).items() if k.startswith("pooling_mode_") and v is True}
    known = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    if len(modes) != 1 or not modes <= set(known):
        raise Failure(
            "UnsupportedArchitecture", f"{POOLING} asks for {sorted(modes)}. Supported: mean tokens or cls token."
        )
    return known[modes.pop()], normalize


def write(source: Path, out: Path, description: Mapping[str, Any], processor: Any) -> None:
    """Write `model.json` beside the graph, and what else its front reads."""
    for name in repository.SERVED[description["task"]].front.files:
        if (source / name).exists():
            shutil.copyfile(source / name, out / name)
        else:
            processor.backend_tokenizer.save(str(out / name))
    (out / "model.json").write_text(json.dumps(description, sort_keys=True, indent=1) + "\n")
